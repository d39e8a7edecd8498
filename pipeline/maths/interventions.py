"""Directional ablation, activation addition and weight orthogonalization (paper, section 2.4 and 4.1)."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import torch
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


@dataclass(frozen=True, eq=False)
class AffineEdit:
    """x^(l) <- x^(l) - (readout . x^(l) - target) u at the input of block l alone, every position.

    u is the direction's vector; readout . u = 1, so afterwards readout . x^(l) = target. An oblique
    projection when target is 0 (Belrose et al. 2023; Marshall et al. 2024).
    """

    direction: Direction
    readout: Float[Tensor, " d_model"]
    target: float


Intervention = DirectionalAblation | ActivationAddition | AffineEdit | None


def batch_kinds(interventions: Iterable[Intervention]) -> set[Hashable]:
    """What keeps interventions apart in batches: their kind, an addition's coefficient, and any other edit itself.

    Interventions of one kind at most go together, a row of the batch each; None goes with any but an edit.
    """
    return {_batch_kind(each) for each in interventions if each is not None}


def _batch_kind(change: DirectionalAblation | ActivationAddition | AffineEdit) -> Hashable:
    match change:
        case DirectionalAblation():
            return "ablation"
        case ActivationAddition():
            return "addition", change.coefficient
        case _:
            return "edit", id(change)


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


def edit(
    x: Float[Tensor, "*batch d_model"],
    u: Float[Tensor, " d_model"],
    readout: Float[Tensor, " d_model"],
    target: float,
) -> Float[Tensor, "*batch d_model"]:
    """x - (readout . x - target) u, computed in the precision of u and returned in that of x."""
    wide = x.to(u.dtype)
    return (wide - (wide @ readout.to(u.dtype) - target).unsqueeze(-1) * u).to(x.dtype)


# Share of a norm's mean squared gain below which a component counts as hardly written. Of 0 to 3, it comes
# closest to live ablation on random post-norm models with narrow and with wide gains (docs/families.md).
GAIN_FLOOR = 0.03


@dataclass(frozen=True, eq=False)
class Projection:
    """W <- W - along (normal . W): afterwards normal . W = 0, since along . normal = 1."""

    along: Float[Tensor, " d_model"]
    normal: Float[Tensor, " d_model"]


def projection(r_hat: Float[Tensor, " d_model"]) -> Projection:
    """W <- W - r_hat r_hat^T W (paper, equation 5)."""
    return Projection(r_hat, r_hat)


def projection_behind_norm(
    r_hat: Float[Tensor, " d_model"], gain: Float[Tensor, " d_model"], centred: bool
) -> Projection:
    """The projection of a matrix whose output z is written as gain * z / rms(z), float64.

    r_hat . (gain * z) = (gain * r_hat) . z, so normal = gain * r_hat clears the direction. Removed
    along r_hat / gain, what is left is the ablated write times rms(z) / rms(z'), one positive number
    per token; gains near zero would make z' large, so the division is damped: along is proportional
    to gain * r_hat / (gain^2 + floor). A LayerNorm (`centred`) takes z less its mean, hence both too.
    """
    gain, r_hat = gain.double(), r_hat.double()
    normal = gain * r_hat
    along = normal / (gain.square() + GAIN_FLOOR * gain.square().mean())
    if centred:
        normal, along = normal - normal.mean(), along - along.mean()
    return Projection(along / (along @ normal), normal)


@torch.no_grad()
def orthogonalize_(w: Float[Tensor, "*shape"], removed: Projection, axis: int, block: int = 2**22) -> None:
    """W <- W - along (normal . W), in place, along the axis of W that is d_model.

    W is a bias, a matrix, or experts stacked first. float64 inside, in slices of about `block`
    numbers; each vector along the axis is summed by itself, so the bytes do not depend on how W is cut up.
    """
    if w.ndim == 3:
        for expert in w:
            orthogonalize_(expert, removed, axis - 1, block)
        return
    rows = w.movedim(axis, -1).view(-1, len(w)) if w.ndim == 1 else w.movedim(axis, -1)
    along, normal = (vector.to(w.device, torch.float64) for vector in (removed.along, removed.normal))
    step = max(1, block // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        part = rows[start : start + step]
        wide = part.double().contiguous()
        part.copy_(wide - (wide * normal).sum(dim=-1, keepdim=True) * along)
