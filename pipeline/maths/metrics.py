"""The numbers read off one forward pass: refusal metric, KL divergence, cross-entropy."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

REFUSAL_EPSILON = 1e-8
KL_EPSILON = 1e-6


def refusal_metric(
    logits: Float[Tensor, "prompt d_vocab"], refusal_tokens: Int[Tensor, " token"]
) -> Float[Tensor, " prompt"]:
    """log P - log(1 - P) in nats, P = summed next-token probability of the refusal tokens.

    float64 with epsilon 1e-8 inside each logarithm, as in the paper's code (section 2.3, appendix B).
    """
    probability = logits.double().softmax(dim=-1)[:, refusal_tokens.to(logits.device)].sum(dim=-1)
    return torch.log(probability + REFUSAL_EPSILON) - torch.log(1 - probability + REFUSAL_EPSILON)


def kl_divergence(
    baseline: Float[Tensor, "prompt d_vocab"], changed: Float[Tensor, "prompt d_vocab"]
) -> Float[Tensor, " prompt"]:
    """KL(baseline || changed) of next-token distributions, in nats, from logits.

    1e-6 is added inside both logarithms, as in the paper's code: published values and the 0.1
    threshold carry it.
    """
    p = baseline.double().softmax(dim=-1)
    q = changed.double().softmax(dim=-1)
    return (p * (torch.log(p + KL_EPSILON) - torch.log(q + KL_EPSILON))).sum(dim=-1)


def token_cross_entropy(
    logits: Float[Tensor, "token d_vocab"], targets: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """-log softmax(logits)[target] per token, in nats."""
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
