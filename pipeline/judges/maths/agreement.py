"""How far a judge that gives scores agrees with labels it was not fitted on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.maths.statistics import Estimate, auroc, kappa, rate


@dataclass(frozen=True)
class AgainstLabels:
    """Cohen's kappa of verdicts and AUROC of scores against labels on the same rows, with 95 % intervals.

    `caught`: share of true rows with a true verdict; `false_alarms`: of false rows. None without such rows.
    """

    n: int
    n_true: int
    kappa: Estimate
    auroc: Estimate
    caught: Estimate | None
    false_alarms: Estimate | None

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def agreement(
    labels: Sequence[bool], verdicts: Sequence[bool], scores: Sequence[float], seed: int = 0
) -> AgainstLabels | None:
    """Agreement over all rows; None where there are none."""
    if not labels:
        return None
    flagged = {
        kind: [bool(v) for v, label in zip(verdicts, labels, strict=True) if bool(label) is kind]
        for kind in (True, False)
    }
    caught, false_alarms = (rate(flagged[kind]) if flagged[kind] else None for kind in (True, False))
    return AgainstLabels(
        len(labels), sum(labels), kappa(labels, verdicts), auroc(labels, scores, seed), caught, false_alarms
    )
