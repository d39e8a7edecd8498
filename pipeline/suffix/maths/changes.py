"""What a suffix changes: how much of a fall comes back, how far it goes below others, what leaves an interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import ttest_ind

from pipeline.maths.statistics import LEAST_FOR_INTERVAL, LEAST_ROWS, LEVEL, Estimate, linearised, mean

# By which two means of the same float32 numbers may differ.
ROUNDING = 1e-6


def returned_share(none: Sequence[float], suffixed: Sequence[float], restored: Sequence[float]) -> Estimate:
    """(restored - suffixed) / (none - suffixed), of means over prompts: 0 nothing comes back, 1 all of it.

    The interval is that of the mean of linearised rows, a row being a prompt. Undefined, with a note, unless the
    fall (none - suffixed) is above zero with its whole interval; of too few prompts for one, with its mean.
    """
    plain, low, back = (np.asarray(values, dtype=float) for values in (none, suffixed, restored))
    n = len(plain)
    fall = mean((plain - low).tolist())
    if (fall.low if fall.low is not None else float(np.mean(plain - low))) <= 0:
        return Estimate(None, None, None, n, "no fall to bring back: its interval holds zero, or it is a rise")
    return mean(linearised((back - low).tolist(), (plain - low).tolist()))


def difference_of_means(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """mean(first) - mean(second) of two sets of prompts, with Welch's 95 % interval; `n` counts both sets."""
    rows, n = (np.asarray(first, dtype=float), np.asarray(second, dtype=float)), len(first) + len(second)
    point = float(rows[0].mean() - rows[1].mean())
    if min(map(len, rows)) < LEAST_ROWS:
        return Estimate(point, None, None, n, f"a set of fewer than {LEAST_ROWS} prompts")
    if not any(map(np.ptp, rows)):
        return Estimate(point, None, None, n, "all rows of each set are equal: there is no spread")
    test: Any = ttest_ind(*rows, equal_var=False)
    interval = test.confidence_interval(LEVEL)
    return Estimate(point, float(interval.low), float(interval.high), n)


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
