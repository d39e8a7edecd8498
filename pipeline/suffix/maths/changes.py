"""What a suffix changes, prompt by prompt: paired changes, their tests, and how much of a fall comes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from pipeline.maths.comparisons import ALPHA, corrected
from pipeline.maths.statistics import LEAST_FOR_INTERVAL, LEAST_ROWS, Estimate, linearised, mean

# By which two means of the same float32 numbers may differ.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Change:
    """Mean of after - before over the same prompts, its 95 % interval, and Wilcoxon's signed-rank test.

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

    The interval is that of the mean of linearised rows, a row being a prompt. Undefined, with a note, for fewer than
    LEAST_FOR_INTERVAL prompts, and unless the fall (none - suffixed) is above zero with its whole interval.
    """
    plain, low, back = (np.asarray(values, dtype=float) for values in (none, suffixed, restored))
    n = len(plain)
    if n < LEAST_FOR_INTERVAL:
        return Estimate(None, None, None, n, f"{n} prompts: a share needs {LEAST_FOR_INTERVAL}")
    fall = mean((plain - low).tolist())
    if (fall.low if fall.low is not None else float(np.mean(plain - low))) <= 0:
        return Estimate(None, None, None, n, "no fall to bring back: its interval holds zero, or it is a rise")
    return mean(linearised((back - low).tolist(), (plain - low).tolist()))


def outside(curve: Sequence[float], band: Sequence[Estimate]) -> list[int]:
    """Where a curve leaves a band of intervals; a point of equal rows is itself alone, few rows have no band."""
    pairs = enumerate(zip(curve, band, strict=True))
    known = [(index, value, row) for index, (value, row) in pairs if row.n >= LEAST_FOR_INTERVAL]
    return [index for index, value, row in known if not (row.holds(value) or _is_point(row, value))]


def _is_point(row: Estimate, value: float) -> bool:
    return row.low is None and row.value is not None and abs(row.value - value) <= ROUNDING


def best_suffix(metrics: Sequence[Sequence[float]]) -> int:
    """Index of the suffix with the lowest mean refusal metric; of equal ones the first."""
    return int(np.argmin([np.mean(rows) for rows in metrics]))
