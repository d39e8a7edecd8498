"""Tokens drawn at random from a model's own distribution, each prompt with random numbers of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """From what a next token is drawn: `top_k` 0 and `top_p` 1 leave every token in."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, eq=False)
class Draws:
    """How answers are drawn, and the numbers in [0, 1) by which each of their tokens is."""

    sampling: Sampling
    uniforms: Float[Tensor, "prompt token"]

    def of(self, prompts: Sequence[int]) -> "Draws":
        """Those of some prompts, by number, one row for each."""
        return Draws(self.sampling, self.uniforms[list(prompts)])


def uniforms(seed: int, draw: int, ids: Sequence[str], n_tokens: int) -> Float[Tensor, "prompt token"]:
    """Numbers in [0, 1) that depend on seed, draw and the prompt's id alone, so on no batch and no order."""
    rows: list[Any] = [
        np.random.default_rng([seed, draw, *name.encode()]).random(n_tokens, dtype=np.float32) for name in ids
    ]
    return torch.tensor(np.array(rows)).reshape(len(ids), n_tokens)


def candidates(
    logits: Float[Tensor, "row d_vocab"], sampling: Sampling
) -> tuple[Float[Tensor, "row token"], Int[Tensor, "row token"]]:
    """Probabilities of the tokens that may be drawn, the likeliest first, and those tokens.

    softmax(logits / temperature) over the `top_k` likeliest (Fan et al. 2018), then 0 from where the likelier ones
    have `top_p` together (Holtzman et al. 2020), as in transformers. They sum to less than 1 then: `drawn` rescales.
    """
    values, tokens = logits.topk(min(sampling.top_k or logits.shape[1], logits.shape[1]))
    shares = torch.softmax(values.double() / sampling.temperature, dim=-1)
    likelier = shares.cumsum(dim=-1) - shares
    # The likeliest stays in, as nothing is likelier.
    return torch.where(likelier < sampling.top_p, shares, 0.0), tokens


def drawn(
    logits: Float[Tensor, "row d_vocab"], sampling: Sampling, numbers: Float[Tensor, " row"]
) -> Int[Tensor, " row"]:
    """The first token at which the cumulated probability exceeds the row's number: inverse transform sampling."""
    shares, tokens = candidates(logits, sampling)
    cumulated = shares.cumsum(dim=-1)
    wanted = (numbers.to(logits.device).double() * cumulated[:, -1])[:, None]
    return tokens.gather(1, torch.searchsorted(cumulated, wanted, right=True))[:, 0]


def next_tokens(
    logits: Float[Tensor, "row d_vocab"], draws: Draws | None, rows: Sequence[int], token: int
) -> Int[Tensor, " row"]:
    """Number `token` of the answers of `rows`: the likeliest one, or where there are draws the one that is drawn."""
    if draws is None:
        return logits.argmax(dim=-1)
    return drawn(logits, draws.sampling, draws.uniforms[list(rows), token])
