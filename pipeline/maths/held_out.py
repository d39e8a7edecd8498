"""What the chosen direction and its controls do on test prompts, which had no part in choosing it: plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.maths.comparisons import Rank, rank
from pipeline.maths.labels import control_kind, strength

DIRECTION = "direction"  # the chosen one, among what was scored
METRICS = {"bypass": "ablation", "subtraction": "subtraction", "induce": "addition"}  # score -> effect
RANKED = ("random", "covariance")  # kinds of controls that are draws of a distribution, each ranked by itself


@dataclass(frozen=True)
class ScoredDirection:
    """The chosen direction or a control: what it is, whatever it does."""

    kind: str
    """random, covariance, shuffled or layer; direction for the chosen one."""
    cosine: float
    """With the chosen one."""
    norm: float
    """In the units of `resid_pre` at its layer."""
    variance_share: float
    """Of the within-class variance of `resid_pre` at the chosen place, the share that lies along it, 0 to 1."""


def ranks(score: str, unchanged: Sequence[float], rows: Mapping[str, Sequence[float]]) -> dict[str, Rank]:
    """Rank of the direction's mean change of a metric among each of RANKED, where there are enough of a kind.

    `rows`: the metric of every prompt under each direction, by name; `unchanged`: without any. A rank here is a test,
    since these prompts chose none of them: on the prompts that chose the direction it comes first with no effect at
    all. Among isotropic directions it says that the effect needs this direction more than any; among draws of the
    within-class covariance, that taking or adding as much of what the model varies by anyhow does not do the same.
    """
    base = float(np.mean(unchanged))
    strengths = {name: strength(METRICS[score], base, float(np.mean(part))) for name, part in rows.items()}
    places = {
        kind: rank(strengths[DIRECTION], [strengths[name] for name in rows if control_kind(name) == kind])
        for kind in RANKED
    }
    return {kind: place for kind, place in places.items() if place}
