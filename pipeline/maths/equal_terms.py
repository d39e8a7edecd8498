"""Additions of what different estimators found, on equal terms: of one length, or of one cost.

A direction of a unit estimator is |d| cos(d, r) long, d being the difference in means: shorter than d by construction,
so that added as it is found it looks weaker. Ablation takes out all that lies along a direction, whatever its length:
there is nothing to multiply until two ablations have one norm or one KL, so they are compared as they are.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# Torch's and scipy's own annotations leave parts open.

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor

from pipeline.maths.estimators import Finding
from pipeline.maths.selection import Place
from pipeline.names import KL_TOLERANCE

DOUBLINGS = 5  # of what was found, before a KL counts as out of reach


@dataclass(frozen=True, eq=False)
class Entrant:
    """What an estimator found at its evaluated place, with what its length is held against.

    `norm`: length of the difference in means at the same place; `harmless`: train rows there.
    """

    place: Place
    finding: Finding
    norm: float
    harmless: Float[Tensor, "harmless d_model"]


@dataclass(frozen=True)
class Coefficient:
    """A multiple of what was found, or None and why there is none."""

    value: float | None
    note: str = ""


def mean_length(entrant: Entrant, coefficient: float) -> float:
    """Mean length of what an addition adds to the harmless train rows at its place, in the units of `resid_pre`.

    A direction adds c |r| to every row. An affine edit adds (target - readout . x) u, another length to each:
    c |r| is the length of their mean, and this, the mean of their lengths, is at least as much.
    """
    found = entrant.finding
    if found.readout is None:
        return coefficient * found.length
    gap = found.high - found.low
    reads = entrant.harmless.double() @ found.readout
    return float((found.low + coefficient * gap - reads).abs().mean()) * found.length / abs(gap)


def coefficient_of_norm(entrant: Entrant) -> Coefficient:
    """The coefficient at which `mean_length` is `norm`."""
    from scipy.optimize import brentq  # pyright: ignore[reportMissingTypeStubs]

    norm, most = entrant.norm, entrant.norm / entrant.finding.length
    if entrant.finding.readout is None:
        return Coefficient(most)
    if (least := mean_length(entrant, 0.0)) >= norm:
        return Coefficient(None, f"it adds {least:.3g} where the difference in means adds {norm:.3g}, and never less")

    def excess(coefficient: float) -> float:
        return mean_length(entrant, coefficient) - norm

    # c |r| is a bound from below, so that the root lies before `most`, but for rounding.
    return Coefficient(float(cast(float, brentq(excess, 0.0, most * (1 + 1e-9)))))


def coefficient_of_kl(kl: Callable[[float], float], target: float) -> Coefficient:
    """A coefficient at which `kl`, the mean KL of the addition, is `target` within KL_TOLERANCE of it.

    By Brent's method on sqrt(kl), which is nearly linear in a small coefficient, between 0 and 1 or in the first
    doubling of the coefficient in which the target is passed. Nothing where it is not passed in DOUBLINGS, where the
    coefficient 0 is above it already (an affine edit changes something then, too), or where kl is not finite.
    """
    from scipy.optimize import brentq  # pyright: ignore[reportMissingTypeStubs]

    if target <= 0:
        return Coefficient(None, f"the difference in means has KL {target:.3g}, which is none to compare at")

    def excess(coefficient: float) -> float:
        found = kl(coefficient)
        return 0.0 if abs(found - target) <= KL_TOLERANCE * target else math.sqrt(max(found, 0.0)) - math.sqrt(target)

    low, high = 0.0, 1.0
    while excess(high) < 0 and high < 2**DOUBLINGS:
        low, high = high, 2 * high
    if excess(high) == 0:
        return Coefficient(high)
    if not excess(low) <= 0 < excess(high) < math.inf:
        ends = f"{kl(low):.3g} at {low:g} and {kl(high):.3g} at {high:g} times its own length"
        return Coefficient(None, f"its KL is {ends}: not on both sides of {target:.3g}")
    root = float(cast(float, brentq(excess, low, high)))
    if excess(root) != 0:
        return Coefficient(None, f"at {root:.3g} times its own length its KL jumps over {target:.3g}")
    return Coefficient(root)
