"""What a suffix changes, prompt by prompt: paired changes, their tests, and how much of a fall comes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import bootstrap, wilcoxon

from pipeline.maths.comparisons import ALPHA, corrected
from pipeline.maths.statistics import LEAST_ROWS, RESAMPLES, Estimate, mean

# By which two means of the same float32 numbers may differ.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Change:
    """Mean of after - before over the same prompts, its bootstrap interval, and Wilcoxon's signed-rank test.

    `p_holm`: corrected for all tests of its family. `verdict`: `lower`, `higher` or `no difference shown`;
    `not testable` where all prompts change by the same amount or too few are there.
    """

    change: Estimate
    p: float | None
    p_holm: float | None = None
    verdict: str = "not testable"


def change(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Change:
    """Paired change of one number."""
    assert len(before) == len(after), "paired values come from the same prompts"
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    estimate = mean(differences.tolist(), seed)
    if len(differences) < LEAST_ROWS or not differences.any():
        return Change(estimate, None)
    test: Any = wilcoxon(differences)
    return Change(estimate, float(test.pvalue))


def holm(family: Mapping[str, Change]) -> dict[str, Change]:
    """The family with Holm's correction over its testable members, and verdicts."""
    p_values = corrected({name: row.p for name, row in family.items()})
    return {
        name: replace(row, p_holm=p_values[name], verdict=_verdict(row, p_values[name])) if name in p_values else row
        for name, row in family.items()
    }


def _verdict(row: Change, p: float) -> str:
    if p >= ALPHA:
        return "no difference shown"
    return "higher" if (row.change.value or 0) > 0 else "lower"


def returned_share(
    none: Sequence[float], suffixed: Sequence[float], restored: Sequence[float], seed: int = 0
) -> Estimate:
    """(restored - suffixed) / (none - suffixed), of means over prompts: 0 nothing comes back, 1 all of it.

    Percentile bootstrap over prompts, the three values of a prompt drawn together. Undefined, with a
    note, unless the fall (none - suffixed) is above zero with its whole interval.
    """
    rows = tuple(np.asarray(values, dtype=float) for values in (none, suffixed, restored))
    n = len(rows[0])
    fall = mean((rows[0] - rows[1]).tolist(), seed)
    if fall.low is None or fall.low <= 0:
        return Estimate(None, None, None, n, "no fall to bring back: its interval holds zero, or it is a rise")
    result = bootstrap(
        rows,
        _share,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Estimate(float(_share(rows[0], rows[1], rows[2])), float(interval.low), float(interval.high), n)


def _share(none: np.ndarray, suffixed: np.ndarray, restored: np.ndarray, axis: int = -1) -> Any:
    return (restored.mean(axis=axis) - suffixed.mean(axis=axis)) / (none.mean(axis=axis) - suffixed.mean(axis=axis))


def outside(curve: Sequence[float], band: Sequence[Estimate]) -> list[int]:
    """Where a curve leaves a band of intervals; a point without interval, as of equal rows, is itself alone."""
    pairs = enumerate(zip(curve, band, strict=True))
    return [index for index, (value, row) in pairs if not (row.holds(value) or _is_point(row, value))]


def _is_point(row: Estimate, value: float) -> bool:
    return row.low is None and row.value is not None and abs(row.value - value) <= ROUNDING


def best_suffix(metrics: Sequence[Sequence[float]]) -> int:
    """Index of the suffix with the lowest mean refusal metric; of equal ones the first."""
    return int(np.argmin([np.mean(rows) for rows in metrics]))
