"""A change of one number on the same prompts: its mean, its interval, and Wilcoxon's signed-rank test."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from pipeline.maths.comparisons import ALPHA, corrected
from pipeline.maths.statistics import LEAST_ROWS, Estimate, mean

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class PairedChange:
    """Mean of after - before over the same prompts, its bootstrap interval, and Wilcoxon's signed-rank test.

    `p_holm`: corrected for all tests of its family. `verdict`: `lower`, `higher` or `no difference shown`;
    `not testable` where all prompts change by the same amount or too few are there.
    """

    change: Estimate
    p: float | None
    p_holm: float | None = None
    verdict: str = "not testable"


def paired(before: Sequence[float], after: Sequence[float], seed: int = 0) -> PairedChange:
    """Paired change of one number; scipy is imported here, since loading it takes a second."""
    from scipy.stats import wilcoxon  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    assert len(before) == len(after), "paired values come from the same prompts"
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    estimate = mean(differences.tolist(), seed)
    if len(differences) < LEAST_ROWS or not differences.any():
        return PairedChange(estimate, None)
    test: Any = wilcoxon(differences)
    return PairedChange(estimate, float(test.pvalue))


def holm(family: Mapping[K, PairedChange]) -> dict[K, PairedChange]:
    """The family with Holm's correction over its testable members, and verdicts."""
    p_values = corrected({name: row.p for name, row in family.items()})
    return {
        name: replace(row, p_holm=p_values[name], verdict=_verdict(row, p_values[name])) if name in p_values else row
        for name, row in family.items()
    }


def _verdict(row: PairedChange, p: float) -> str:
    if p >= ALPHA:
        return "no difference shown"
    return "higher" if (row.change.value or 0) > 0 else "lower"
