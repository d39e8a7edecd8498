"""What several runs say together: the same prompts under several seeds or draws count once.

A run is a value a prompt, by the prompt's id: 1 where it is refused, or a change. Two seeds share some test prompts,
two draws share all of them, so that answers to one prompt are no independent evidence.
"""

# pyright: reportUnknownMemberType=false
# Scipy's own annotations leave parts open.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pipeline.maths.statistics import LEVEL, Estimate, linearised, ratio, wilson

Values = Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """How far the means of single runs lie apart, in the unit of the values."""

    low: float
    high: float
    sd: float | None
    """None of a single run."""
    n: int
    """Runs."""


@dataclass(frozen=True)
class Between:
    """What differs from run to run beyond the prompts that each happened to have."""

    sd: Estimate
    """Standard deviation of the runs' true means, in the unit of the values; n is of runs."""
    share: Estimate
    """Of the variance of the runs' means, 0 to 1."""

    @property
    def is_none(self) -> bool:
        """The runs differ so little that even the upper bound is no more than the sampling of prompts gives.

        Both bounds are truncated at 0 then, which says nothing of how sure that is.
        """
        return self.share.high == 0


def prompt_means(runs: Sequence[Values]) -> dict[str, float]:
    """Mean value of each prompt, over all runs that have it."""
    return {name: math.fsum(values) / len(values) for name, values in _by_prompt(runs).items()}


def _by_prompt(runs: Sequence[Values]) -> dict[str, list[float]]:
    ids = sorted({name for run in runs for name in run})
    return {name: [run[name] for run in runs if name in run] for name in ids}


def _sums(runs: Sequence[Values]) -> tuple[list[float], list[int]]:
    found = _by_prompt(runs).values()
    return [math.fsum(values) for values in found], [len(values) for values in found]


def clustered_rate(runs: Sequence[Values]) -> Estimate:
    """Share of ones over all answers with a 95 % interval over prompts; n is of prompts.

    Wilson's score interval for as many independent answers as would have the variance that the share has with
    prompts as clusters: p (1 - p) / variance (Kish 1965's effective size; Korn & Graubard 1998 for the interval), at
    least none more than there are answers. A share of 0 or 1 has no variance: each prompt counts once then. Raises
    ValueError on no values.
    """
    sums, counts = _sums(runs)
    n, share = len(sums), math.fsum(sums) / sum(counts)
    variance = float(np.var(linearised(sums, counts), ddof=1)) / n if n > 1 else 0.0
    size = min(share * (1 - share) / variance, sum(counts)) if variance > 0 else n
    return Estimate(share, *wilson(share * size, size), n)


def clustered_mean(runs: Sequence[Values]) -> Estimate:
    """Mean over all answers with a 95 % bootstrap interval that draws whole prompts; n is of prompts."""
    return ratio(*_sums(runs))


def spread(runs: Sequence[Values]) -> Spread:
    """Of the means of the runs."""
    means = _means(runs)
    sd = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return Spread(min(means), max(means), sd, len(means))


def between(runs: Sequence[Values]) -> Between:
    """Variance between runs beyond the sampling of prompts, by the method of moments, truncated at 0.

    The means of runs with one true mean would have a variance of W - C: W the mean over runs of s^2 / n, C the mean
    over pairs of runs of the covariance that shared prompts give their means. What the observed variance V has above
    it lies between the runs (DerSimonian & Laird 1986, with shared prompts); the share is 1 - (W - C) / V (Higgins &
    Thompson 2002's I^2). The 95 % intervals are those of V by chi-square, for means that are about normal. No estimate
    of fewer than three runs, or where a run has fewer than two prompts.
    """
    n, fewest = len(runs), min(map(len, runs), default=0)
    if n < 3 or fewest < 2:
        nothing = Estimate(None, None, None, n, f"{n} runs, of {fewest} prompts or more: it needs 3 and 2")
        return Between(nothing, nothing)
    from scipy.stats import chi2  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    observed, expected = float(np.var(_means(runs), ddof=1)), sampling_variance(runs)
    if observed == 0:
        none = Estimate(0.0, None, None, n, "the runs have the same mean")
        return Between(none, none)
    tails = ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
    bounds = [observed * (n - 1) / float(chi2.ppf(tail, n - 1)) for tail in tails]
    beyond = [max(0.0, variance - expected) for variance in (observed, *bounds)]
    sds = [math.sqrt(variance) for variance in beyond]
    shares = [variance / (variance + expected) if variance + expected > 0 else 0.0 for variance in beyond]
    return Between(Estimate(sds[0], sds[1], sds[2], n), Estimate(shares[0], shares[1], shares[2], n))


def sampling_variance(runs: Sequence[Values]) -> float:
    """Variance that the means of runs with one true mean would have, shared prompts counted: W - C of `between`."""
    means = _means(runs)
    rest = [
        {name: (value - mean) / len(run) for name, value in run.items()} for run, mean in zip(runs, means, strict=True)
    ]
    own = [math.fsum(x * x for x in run.values()) * len(run) / (len(run) - 1) for run in rest]
    shared = [math.fsum(a[name] * b[name] for name in a.keys() & b.keys()) for a, b in combinations(rest, 2)]
    return max(0.0, math.fsum(own) / len(own) - math.fsum(shared) / len(shared))


def differences(runs: Sequence[Values], before: Values) -> list[dict[str, float]]:
    """Each run minus one other, on the prompts that both have."""
    return [{name: value - before[name] for name, value in run.items() if name in before} for run in runs]


def chance_cosine(d_model: int) -> float:
    """What 95 of 100 pairs of directions drawn at random (isotropic) in `d_model` dimensions have at most, as |cosine|.

    The squared cosine has a beta distribution with parameters 1/2 and (d_model - 1) / 2.
    """
    from scipy.stats import beta  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return math.sqrt(float(beta.ppf(LEVEL, 0.5, (d_model - 1) / 2)))


def _means(runs: Sequence[Values]) -> list[float]:
    return [math.fsum(run.values()) / len(run) for run in runs]
