"""Difference-in-means directions (Arditi et al. 2024, section 2.3)."""

# pyright: reportUnknownMemberType=false
# Torch's own annotations leave parts open.

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor


def length(vector: Float[Tensor, " d_model"]) -> Float[Tensor, ""]:
    """Euclidean length |r|."""
    return cast(Tensor, vector.norm())


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of the residual stream, raw: activation addition needs its length.

    `vector` is in the units of `resid_pre` at block `layer`; `position` counts from the end of
    the prompt (-1 is the last template token).
    """

    vector: Float[Tensor, " d_model"]
    layer: int
    position: int

    def __post_init__(self):
        assert self.vector.ndim == 1, f"a direction has one axis, not {tuple(self.vector.shape)}"
        assert self.position < 0 <= self.layer, (self.position, self.layer)

    @property
    def norm(self) -> float:
        """Euclidean length |r|."""
        return float(length(self.vector.double()))

    @property
    def r_hat(self) -> Float[Tensor, " d_model"]:
        """r / |r| in float64. A zero vector has no direction: callers exclude it first."""
        vector = self.vector.double()
        norm = length(vector)
        assert norm > 0, "a zero vector has no direction"
        return vector / norm


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance (population) of each number over prompts, float64."""

    mean: Float[Tensor, "*axes"]
    variance: Float[Tensor, "*axes"]


class MomentFitter:
    """Sums of rows and of their squares in float64, one batch at a time; its size does not grow with rows."""

    def __init__(self):
        self.total: Tensor | None = None
        self.squares: Tensor | None = None
        self.count = 0

    def update(self, rows: Float[Tensor, "prompt *axes"]) -> None:
        """Add a batch of rows; the result does not depend on how rows are split into batches."""
        wide = rows.double()
        batch, squares = wide.sum(dim=0), wide.square().sum(dim=0)
        self.total = batch if self.total is None else self.total + batch
        self.squares = squares if self.squares is None else self.squares + squares
        self.count += rows.shape[0]

    def moments(self) -> Moments:
        """Of every row seen so far."""
        assert self.total is not None, "no rows to take the mean of"
        assert self.squares is not None
        mean = self.total / self.count
        return Moments(mean, (self.squares / self.count - mean.square()).clamp(min=0))


def difference_in_means(
    harmful: Float[Tensor, "position layer d_model"], harmless: Float[Tensor, "position layer d_model"]
) -> Float[Tensor, "position layer d_model"]:
    """r[i, l] = mean_harmful[i, l] - mean_harmless[i, l] (paper, equation 3)."""
    assert harmful.shape == harmless.shape, (harmful.shape, harmless.shape)
    return harmful.double() - harmless.double()


def mean_row(rows: Float[Tensor, "prompt d_model"]) -> Float[Tensor, " d_model"]:
    """Mean over prompts, float64."""
    return rows.double().mean(dim=0)


def is_zero(r: Float[Tensor, " d_model"], scale: Float[Tensor, " d_model"], tolerance: float = 1e-6) -> bool:
    """|r| <= tolerance * |scale|: nothing but rounding separates the two means.

    At layer 0 the template tokens are constants, so their difference in means is zero.
    """
    return bool(length(r.double()) <= tolerance * length(scale.double()))


def random_direction(like: Direction, seed: int) -> Direction:
    """An isotropic random direction with the same norm, layer and position as `like` (the control)."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(like.vector.shape, generator=generator, dtype=torch.float64)
    return Direction(vector / length(vector) * like.norm, like.layer, like.position)
