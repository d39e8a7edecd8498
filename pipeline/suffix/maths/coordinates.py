"""Greedy coordinate gradient on token sequences (Zou et al. 2023, algorithm 2): proposals, no model."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def best_replacements(
    gradient: Float[Tensor, "place token"], allowed: Int[Tensor, " allowed"], k: int
) -> Int[Tensor, "place k"]:
    """For every place the k allowed tokens whose one-hot gradient promises the largest fall of the loss."""
    order = (-gradient[:, allowed]).topk(min(k, len(allowed)), dim=1).indices
    return allowed[order]


def proposals(
    current: Int[Tensor, " place"], replacements: Int[Tensor, "place k"], count: int, seed: int
) -> Int[Tensor, "proposal place"]:
    """`count` copies of the sequence, each with one place, drawn evenly, replaced by one of that place's k tokens.

    Copies that repeat another, or the sequence itself, are left out, so there may be fewer.
    """
    generator = torch.Generator().manual_seed(seed)
    n_places, k = replacements.shape
    start = int(torch.randint(n_places, (), generator=generator))
    places = (torch.arange(count) + start) % n_places
    chosen = replacements[places, torch.randint(k, (count,), generator=generator)]
    rows = current.repeat(count, 1)
    rows[torch.arange(count), places] = chosen
    distinct = torch.unique(rows, dim=0)
    return distinct[(distinct != current).any(dim=1)]
