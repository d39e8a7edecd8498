"""Intervals: Wilson for rates, bootstrap for means (statsmodels and scipy do the work)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint


@dataclass(frozen=True)
class Estimate:
    """A point with its 95 % interval and the number of prompts behind it."""

    value: float
    low: float
    high: float
    n: int


def rate(outcomes: Sequence[bool]) -> Estimate:
    """Share of true outcomes with its 95 % Wilson score interval. Raises ValueError on no outcomes."""
    n = len(outcomes)
    if n == 0:
        raise ValueError("a rate needs at least one outcome")
    count = sum(map(bool, outcomes))
    return Estimate(count / n, *wilson(count, n), n)


def wilson(count: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a rate of `count` in `n`."""
    low, high = proportion_confint(np.array(count), np.array(n), alpha=0.05, method="wilson")
    return float(np.asarray(low)), float(np.asarray(high))


def mean(values: Sequence[float], seed: int = 0, n_resamples: int = 2000) -> Estimate:
    """Mean with its 95 % percentile bootstrap interval over rows (seeded).

    One row, or rows that are all equal, have an interval of zero width or none to resample: the
    point stands for both ends. Raises ValueError on no rows or on a value that is not finite.
    """
    rows = np.asarray(values, dtype=float)
    if rows.size == 0 or not np.isfinite(rows).all():
        raise ValueError(f"a mean needs finite rows, got {rows.size} of which {np.isfinite(rows).sum()} finite")
    point = math.fsum(rows) / rows.size
    if np.ptp(rows) == 0:
        return Estimate(point, point, point, rows.size)
    result = bootstrap((rows,), np.mean, n_resamples=n_resamples, method="percentile", rng=np.random.default_rng(seed))
    return Estimate(point, float(result.confidence_interval.low), float(result.confidence_interval.high), rows.size)


def newcombe_difference(a: Sequence[bool], b: Sequence[bool]) -> tuple[float, float]:
    """95 % interval of rate(b) - rate(a) for paired outcomes of the same prompts.

    Newcombe's hybrid score interval for paired differences (Newcombe 1998, method 10).
    """
    assert len(a) == len(b) > 0, "paired outcomes come from the same prompts"
    first, second = rate(a), rate(b)
    correlation = _phi(a, b)
    delta = second.value - first.value
    to_first, from_second = first.high - first.value, second.value - second.low
    down = math.sqrt(from_second**2 - 2 * correlation * from_second * to_first + to_first**2)
    to_second, from_first = second.high - second.value, first.value - first.low
    up = math.sqrt(to_second**2 - 2 * correlation * to_second * from_first + from_first**2)
    return delta - down, delta + up


def _phi(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Phi coefficient of two paired binary outcomes, 0 where either is constant."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
