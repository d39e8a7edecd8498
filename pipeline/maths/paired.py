"""Paired changes of a number that is measured twice on the same prompts."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from pipeline.maths.comparisons import ALPHA, corrected
from pipeline.maths.statistics import LEAST_ROWS, Estimate, mean

# Draws of a flip test: enough that Holm's correction over every layer of a deep model leaves a small p small.
FLIPS = 49_999
BATCH = 10_000  # draws at once, for memory
K = TypeVar("K", bound=Hashable)


def flip_test(rows: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of a mean when each row is as likely to have the other sign: exact for few rows, else seeded draws.

    Where before and after are exchangeable for every prompt it needs no distribution (Fisher 1935).
    """
    # Imported here: loading it takes a second.
    from scipy.stats import permutation_test  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    result: Any = permutation_test(
        (np.asarray(rows, dtype=float),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        batch=BATCH,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


@dataclass(frozen=True)
class PairedChange:
    """Mean of after - before over the same prompts, its 95 % interval, and `flip_test` of it.

    `p_holm`: corrected for all tests of its family. `verdict`: `lower`, `higher` or `no difference shown`;
    `not testable` where no prompt changes or too few are there.
    """

    change: Estimate
    p: float | None
    p_holm: float | None = None
    verdict: str = "not testable"


def paired(before: Sequence[float], after: Sequence[float], seed: int = 0) -> PairedChange:
    """Paired change of one number; `seed` draws the signs of its test."""
    assert len(before) == len(after), "paired values come from the same prompts"
    rows = [b - a for a, b in zip(before, after, strict=True)]
    testable = len(rows) >= LEAST_ROWS and any(rows)
    return PairedChange(mean(rows), flip_test(rows, seed) if testable else None)


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
