"""The published direction beside the difference in means of every candidate (section 2.3)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.maths.directions import Direction
from pipeline.maths.selection import Place
from pipeline.published.maths.checks import Check, steady

# A rounding error left where two means are equal: published layer-0 cells are 1e-15 of the longest cell.
ROUNDING = 1e-12


@dataclass(frozen=True)
class DirectionReplay:
    """A published direction beside the published differences in means; cells are (position, layer).

    max_difference and cosine: of `direction` and the cell of the published choice; length and
    unit_length: |r| as stored and |r_hat|; nearest and second: the cells with the largest cosine; exact_zeros: cells
    whose numbers are all 0; rounding: cells no longer than ROUNDING of the longest, which have no direction.
    """

    published: Place
    max_difference: float
    cosine: float
    length: float
    unit_length: float
    nearest: Place
    nearest_cosine: float
    second: Place
    second_cosine: float
    exact_zeros: tuple[Place, ...]
    rounding: tuple[Place, ...]

    def checks(self) -> list[Check]:
        """The direction is the cell of the choice, number by number, and no other cell is nearer to it."""
        return [
            Check("max |direction - mean_diffs|", self.max_difference, 0.0, self.max_difference, 0.0),
            Check("cosine(direction, mean_diffs)", self.cosine, 1.0, abs(self.cosine - 1), 1e-12),
            Check("|r_hat|", self.unit_length, 1.0, abs(self.unit_length - 1), 1e-12),
            Check("nearest cell", self.nearest, self.published, float(self.nearest != self.published), 0.0),
        ]


def replay_direction(
    mean_diffs: Float[Tensor, "position layer d_model"], direction: Float[Tensor, " d_model"], published: Place
) -> DirectionReplay:
    """Is direction = mean_diffs[position, layer] at the published choice, and at no other cell?

    Raw difference in means, in units of `resid_pre`. Raises ValueError for a choice outside `mean_diffs`,
    numbers that are not finite, a direction without length, and fewer than two cells with one.
    """
    n_positions, n_layers, _ = mean_diffs.shape
    if not (-n_positions <= published[0] < 0 <= published[1] < n_layers):
        raise ValueError(f"the choice {published} is not a cell of mean_diffs of shape {tuple(mean_diffs.shape)}")
    if not (mean_diffs.isfinite().all() and direction.isfinite().all()):
        raise ValueError("mean_diffs or direction has a number that is not finite")
    lengths = torch.tensor([[length(cell) for cell in row] for row in mean_diffs], dtype=torch.float64)
    rounding = lengths <= ROUNDING * lengths.max()
    if length(direction) == 0 or (~rounding).sum() < 2:
        raise ValueError("the direction, or all but one cell of mean_diffs, has no length")
    cosines = torch.tensor([[cosine(cell, direction) for cell in row] for row in mean_diffs], dtype=torch.float64)
    (nearest, nearest_cosine), (second, second_cosine) = _largest_two(cosines.masked_fill(rounding, -math.inf))
    at = mean_diffs[published]
    return DirectionReplay(
        published=published,
        max_difference=float((direction.double() - at.double()).abs().max()),
        cosine=cosine(at, direction),
        length=length(direction),
        unit_length=steady(length(Direction(direction, published[1], published[0]).r_hat)),
        nearest=nearest,
        nearest_cosine=nearest_cosine,
        second=second,
        second_cosine=second_cosine,
        exact_zeros=_cells(lengths == 0),
        rounding=_cells(rounding),
    )


def length(vector: Float[Tensor, " d_model"]) -> float:
    """|v| in float64, rounded once."""
    return math.sqrt(_dot(vector, vector))


def cosine(a: Float[Tensor, " d_model"], b: Float[Tensor, " d_model"]) -> float:
    """a.b / (|a| |b|), to 12 digits; 0 where a vector has no length."""
    scale = length(a) * length(b)
    return steady(_dot(a, b) / scale) if scale > 0 else 0.0


def _dot(a: Float[Tensor, " d_model"], b: Float[Tensor, " d_model"]) -> float:
    return math.fsum((a.double() * b.double()).tolist())


def _largest_two(cosines: Float[Tensor, "position layer"]) -> list[tuple[Place, float]]:
    values, indices = cosines.flatten().topk(2)
    n_positions, n_layers = cosines.shape
    places = [(i // n_layers - n_positions, i % n_layers) for i in indices.tolist()]
    return list(zip(places, values.tolist(), strict=True))


def _cells(mask: Bool[Tensor, "position layer"]) -> tuple[Place, ...]:
    return tuple((int(i) - mask.shape[0], int(layer)) for i, layer in mask.nonzero())
