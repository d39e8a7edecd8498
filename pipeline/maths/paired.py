"""Paired differences of a number that is measured twice on the same prompts.

scipy is imported where it is used: loading it takes a second.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from pipeline.maths.comparisons import ALPHA, corrected
from pipeline.maths.statistics import LEAST_ROWS, Estimate, mean

FLIPS = 9999  # draws of a flip test
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Difference(Estimate):
    """Mean paired difference, after minus before; `p` of `flip_test`, `p_holm` the same corrected for its family."""

    p: float | None = None
    p_holm: float | None = None


def differences(family: Mapping[K, tuple[Sequence[float], Sequence[float]]], seed: int = 0) -> dict[K, Difference]:
    """Differences of each pair (before, after) of values of the same prompts, with Holm's correction over all."""
    paired = {name: [b - a for a, b in zip(*rows, strict=True)] for name, rows in family.items()}
    p_values = {name: flip_test(rows, seed) for name, rows in paired.items()}
    p_holm = corrected(p_values)
    return {
        name: Difference(**vars(mean(rows)), p=p_values[name], p_holm=p_holm[name]) for name, rows in paired.items()
    }


def flip_test(rows: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of a mean when each row is as likely to have the other sign: exact for few rows, else seeded draws.

    Where before and after are exchangeable for every prompt it needs no distribution (Fisher 1935).
    """
    from scipy.stats import permutation_test  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    result: Any = permutation_test(
        (np.asarray(rows, dtype=float),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


@dataclass(frozen=True)
class PairedChange:
    """Mean of after - before over the same prompts, its 95 % interval, and Wilcoxon's signed-rank test.

    `p_holm`: corrected for all tests of its family. `verdict`: `lower`, `higher` or `no difference shown`;
    `not testable` where all prompts change by the same amount or too few are there.
    """

    change: Estimate
    p: float | None
    p_holm: float | None = None
    verdict: str = "not testable"


def paired(before: Sequence[float], after: Sequence[float]) -> PairedChange:
    """Paired change of one number; scipy is imported here, since loading it takes a second."""
    from scipy.stats import wilcoxon  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    assert len(before) == len(after), "paired values come from the same prompts"
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    estimate = mean(differences.tolist())
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
