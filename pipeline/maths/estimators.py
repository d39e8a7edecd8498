"""Ways to find a direction from `resid_pre` of two classes at one place, behind one interface.

Each takes harmful and harmless rows at one (position, layer) and gives a Finding: what removes the
concept and what induces it. Directions of unit estimators get the length of the class means' distance
along them, so that adding them moves a harmless prompt as far along the direction as the classes lie apart.
The libraries that fit are imported where they are used, since most stages only need the types here.
"""

# pyright: reportUnknownMemberType=false
# Torch's own annotations leave parts open.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.maths.directions import Direction, is_zero, length, mean_row
from pipeline.maths.interventions import ActivationAddition, AffineEdit, DirectionalAblation, Intervention
from pipeline.maths.selection import Place
from pipeline.names import MEAN_DIFFERENCE

Harmful = Float[Tensor, "harmful d_model"]
Harmless = Float[Tensor, "harmless d_model"]


@dataclass(frozen=True, eq=False)
class Finding:
    """What an estimator found at one place: `r` to add, and for affine editing the read-out beside it.

    Without `readout`, removal is directional ablation of `r` and induction adds it. With it, both set
    readout . x, at the input of the block and every position: to `low`, the harmless mean, or to `high`,
    the harmful mean; since readout . r = high - low, r is the move between them.
    """

    r: Float[Tensor, " d_model"]
    readout: Float[Tensor, " d_model"] | None = None
    low: float = 0.0
    high: float = 0.0

    @property
    def length(self) -> float:
        """|r|, in the units of `resid_pre`."""
        return float(length(self.r.double()))

    def interventions(self, layer: int, position: int, coefficient: float) -> dict[str, Intervention]:
        """`ablation` and `addition` by name."""
        direction = Direction(self.r, layer, position)
        if self.readout is None:
            return {"ablation": DirectionalAblation(direction), "addition": ActivationAddition(direction, coefficient)}
        unit = self.r / (self.high - self.low)
        induced = self.low + coefficient * (self.high - self.low)
        return {
            "ablation": AffineEdit(Direction(unit, layer, position), self.readout, self.low),
            "addition": AffineEdit(Direction(unit, layer, position), self.readout, induced),
        }


def mean_difference(harmful: Harmful, harmless: Harmless) -> Finding:
    """r = mean harmful - mean harmless, float64 (paper, equation 3)."""
    return Finding(_difference(harmful, harmless))


def principal_component(harmful: Harmful, harmless: Harmless) -> Finding:
    """First right singular vector of the differences of the i-th harmful and i-th harmless row (Zou et al. 2023).

    Not centred, as the differences' mean is the signal. The longer class gives its first rows.
    """
    n = min(len(harmful), len(harmless))
    differences = harmful[:n].double() - harmless[:n].double()
    components = cast(Tensor, torch.linalg.svd(differences, full_matrices=False).Vh)
    return Finding(_scaled(components[0], harmful, harmless))


def logistic_probe(harmful: Harmful, harmless: Harmless) -> Finding:
    """Normal of the plane that an L2 logistic regression on standardised coordinates puts between the classes."""
    from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingTypeStubs]
    from sklearn.preprocessing import StandardScaler  # pyright: ignore[reportMissingTypeStubs]

    rows = torch.cat([harmful, harmless]).double().numpy()
    labels = [1] * len(harmful) + [0] * len(harmless)
    scaler: Any = StandardScaler()
    probe: Any = LogisticRegression(max_iter=2000)
    probe.fit(scaler.fit_transform(rows), labels)
    weights = torch.from_numpy(np.asarray(probe.coef_[0] / scaler.scale_))
    return Finding(_scaled(weights, harmful, harmless))


def leace(harmful: Harmful, harmless: Harmless) -> Finding:
    """LEACE's oblique projection x - u (v . x - target), with the targets of affine concept editing.

    v . x is the read-out and u the move that the fitted eraser (Belrose et al. 2023) makes; after the
    edit no linear probe tells the classes apart, whatever constant the read-out is set to. The targets
    are the class means (Marshall et al. 2024): harmless removes refusal, harmful induces it.
    """
    from concept_erasure import LeaceFitter  # pyright: ignore[reportMissingTypeStubs]

    rows = torch.cat([harmful, harmless]).double()
    labels = torch.tensor([1.0] * len(harmful) + [0.0] * len(harmless), dtype=torch.float64)
    # Without the trace constraint the eraser has rank one: a single direction, like the others.
    eraser: Any = LeaceFitter.fit(rows, labels, constrain_cov_trace=False).eraser
    move, readout = eraser.proj_left[:, 0], eraser.proj_right[0]
    low, high = (float(mean_row(part) @ readout) for part in (harmless, harmful))
    return Finding(move * (high - low), readout, low, high)


Estimator = Callable[[Harmful, Harmless], Finding]
ESTIMATORS: Mapping[str, Estimator] = {
    MEAN_DIFFERENCE: mean_difference,
    "principal_component": principal_component,
    "logistic_probe": logistic_probe,
    "leace": leace,
}


def fit(
    name: str,
    places: Sequence[Place],
    harmful: Float[Tensor, "harmful place d_model"],
    harmless: Float[Tensor, "harmless place d_model"],
    progress: Callable[[float], None] = lambda places: None,
) -> dict[Place, Finding]:
    """The finding of an estimator at every place where the classes differ at all."""
    findings: dict[Place, Finding] = {}
    for index, place in enumerate(places):
        first, second = harmful[:, index], harmless[:, index]
        if not is_zero(_difference(first, second), mean_row(first)):
            findings[place] = ESTIMATORS[name](first, second)
        progress(1)
    return findings


def _difference(harmful: Harmful, harmless: Harmless) -> Float[Tensor, " d_model"]:
    return mean_row(harmful) - mean_row(harmless)


def _scaled(vector: Float[Tensor, " d_model"], harmful: Harmful, harmless: Harmless) -> Float[Tensor, " d_model"]:
    """(d . v) v for the unit vector v and the difference in means d: oriented from harmless to harmful."""
    unit = vector / length(vector)
    return (_difference(harmful, harmless) @ unit) * unit
