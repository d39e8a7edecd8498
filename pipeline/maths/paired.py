"""Paired differences of a number that is measured twice on the same prompts.

scipy is imported where it is used: loading it takes a second.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pipeline.maths.comparisons import corrected
from pipeline.maths.statistics import Estimate, mean

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
        name: Difference(**vars(mean(rows, seed)), p=p_values[name], p_holm=p_holm[name])
        for name, rows in paired.items()
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
