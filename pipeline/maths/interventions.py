"""Directional ablation, activation addition and weight orthogonalization (paper, section 2.4 and 4.1)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pipeline.maths.directions import Direction


@dataclass(frozen=True)
class DirectionalAblation:
    """x <- x - r_hat r_hat^T x on everything written to the residual stream, every layer and position."""

    direction: Direction


@dataclass(frozen=True)
class ActivationAddition:
    """x^(l) <- x^(l) + coefficient * r at the input of block l alone, every position."""

    direction: Direction
    coefficient: float = 1.0


Intervention = DirectionalAblation | ActivationAddition | None


def ablate(x: Float[Tensor, "*batch d_model"], r_hat: Float[Tensor, " d_model"]) -> Float[Tensor, "*batch d_model"]:
    """x - (x . r_hat) r_hat, computed in the wider of the two precisions and returned in that of x."""
    wide = x.to(r_hat.dtype) if r_hat.dtype.itemsize > x.dtype.itemsize else x
    unit = r_hat.to(wide.dtype)
    return (wide - (wide @ unit).unsqueeze(-1) * unit).to(x.dtype)


def add(
    x: Float[Tensor, "*batch d_model"], r: Float[Tensor, " d_model"], coefficient: float
) -> Float[Tensor, "*batch d_model"]:
    """x + coefficient r."""
    return x + (coefficient * r).to(x.dtype)


def orthogonalize(
    w_out: Float[Tensor, "d_model d_in"], r_hat: Float[Tensor, " d_model"]
) -> Float[Tensor, "d_model d_in"]:
    """W_out - r_hat r_hat^T W_out: orthogonalising a matrix is ablating each of its columns."""
    return ablate(w_out.T, r_hat).T.contiguous()
