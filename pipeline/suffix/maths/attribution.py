"""Who writes the direction, and where heads look (paper, section 5): per-head projections, attention by region."""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def head_projections(
    z: Float[Tensor, "prompt d_in"], w_out: Float[Tensor, "d_model d_in"], r: Float[Tensor, " d_model"], n_heads: int
) -> Float[Tensor, "prompt head"]:
    """r . (W_out[:, head] z[head]) for every head; their sum is r . (W_out z), biases apart. float64.

    `z`: the heads' outputs one after the other, as W_out reads them.
    """
    width = z.shape[-1] // n_heads
    assert width * n_heads == z.shape[-1], (tuple(z.shape), n_heads)
    readout = r.double() @ w_out.double()
    return (z.double() * readout).unflatten(-1, (n_heads, width)).sum(dim=-1)


def norm_scale(
    before: Float[Tensor, "prompt d_model"], gain: Float[Tensor, " d_model"], after: Float[Tensor, "prompt d_model"]
) -> Float[Tensor, " prompt"]:
    """s with after = s * gain * before: what a norm multiplied each row by, beside its gain. float64.

    With s held at its value a normalised write is linear in what came before the norm. It is read off
    lengths, not off any projection, so that a sum of projections can still fail to add up.
    """
    return after.double().norm(dim=-1) / (gain.double() * before.double()).norm(dim=-1)


def relative_error(parts: Float[Tensor, "prompt *axes"], whole: Float[Tensor, "prompt *axes"]) -> float:
    """Largest |parts - whole| over the axes, each relative to the root mean square of `whole` over prompts."""
    difference = (parts - whole).square().mean(dim=0).sqrt()
    size = whole.square().mean(dim=0).sqrt()
    return float((difference / size.clamp(min=torch.finfo(torch.float64).tiny)).max())


def top_heads(mean: Float[Tensor, "layer head"], k: int) -> list[tuple[int, int]]:
    """(layer, head) of the k largest projections, largest first; of equal ones the earlier."""
    n_heads = mean.shape[1]
    order = torch.argsort(mean.flatten(), descending=True, stable=True)[:k].tolist()
    return [(index // n_heads, index % n_heads) for index in order]


def random_heads(like: Sequence[tuple[int, int]], n_layers: int, n_heads: int, seed: int) -> list[tuple[int, int]]:
    """As many other heads, drawn from the same layers; from any layer where those are used up."""
    generator = torch.Generator().manual_seed(seed)
    taken, drawn = set(like), []
    for layer, _ in like:
        free = [(layer, head) for head in range(n_heads) if (layer, head) not in taken]
        free = free or [(i, h) for i in range(n_layers) for h in range(n_heads) if (i, h) not in taken]
        assert free, f"{len(like)} heads leave no others among {n_layers} x {n_heads}"
        choice = free[int(torch.randint(len(free), (), generator=generator))]
        taken.add(choice)
        drawn.append(choice)
    return drawn


def region_masses(
    attention: Float[Tensor, "*heads token"], regions: Int[Tensor, " token"], n_regions: int
) -> Float[Tensor, "*heads region"]:
    """Attention from one token summed over the tokens of each region. float64.

    Each row sums to what the attention sums to: 1, or less by what a model with attention sinks gives them.
    """
    member = torch.nn.functional.one_hot(regions, n_regions).double()
    return attention.double() @ member


def mean_over(values: Float[Tensor, "prompt layer head *axes"], heads: Collection[tuple[int, int]]) -> Tensor:
    """Mean over the given heads, prompt by prompt."""
    return torch.stack([values[:, layer, head] for layer, head in heads]).mean(dim=0)
