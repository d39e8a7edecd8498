"""Racing: candidates that cannot be chosen any more are measured on no further prompt.

Every candidate is measured on the same prompts, in rounds. After a round a candidate stops when one-sided
bounds say, from the prompts it has seen, that it fails a threshold, or that its bypass is above that of a
rival that has been measured in full and passes every threshold with confidence (paired, prompt by prompt).
The race gives another winner than measuring everything only if it stops that winner: 3 threshold tests and
a paired test per rival could do so after each round but the last, and Bonferroni's correction over them, half
of the level each, keeps the chance below the level. Bounds are Student's t for prompts drawn from a
population. They are wider than the given prompts alone would need, so that what is stopped would hardly win
among other prompts either, and bootstrap frequencies of winning need no more than the candidates left.
"""

# pyright: reportUnknownMemberType=false
# Scipy and statsmodels have no annotations.

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np

from pipeline.maths.selection import BEATEN, CandidateScores, Place, PromptScores, Thresholds, rejection, shortfall

ROUNDS = (0.25, 0.5, 1.0)  # shares of the prompts of each class that have been seen after each round
MIN_PROMPTS = 6  # of each class, before anything stops


@dataclass(frozen=True)
class Prompts:
    """Numbers of some prompts of each class."""

    harmful: tuple[int, ...]
    harmless: tuple[int, ...]

    def cut(self, share: float) -> "Prompts":
        """The first share of each class, rounded up."""
        harmful, harmless = (rows[: math.ceil(share * len(rows))] for rows in (self.harmful, self.harmless))
        return Prompts(harmful, harmless)

    def after(self, seen: "Prompts") -> "Prompts":
        """What follows the prompts seen."""
        return Prompts(self.harmful[len(seen.harmful) :], self.harmless[len(seen.harmless) :])


Measure = Callable[[Sequence[Place], Prompts], Mapping[Place, PromptScores]]


@dataclass(frozen=True)
class Race:
    """Scores of every candidate in the order of its prompts, NaN where not measured, and why some stopped."""

    scores: Mapping[Place, PromptScores]
    stopped: Mapping[Place, str]


def shuffled(n_harmful: int, n_harmless: int, seed: int) -> Prompts:
    """Every prompt in random order: rounds are then samples of all."""
    generator = np.random.default_rng(seed)
    harmful, harmless = (tuple(generator.permutation(n).tolist()) for n in (n_harmful, n_harmless))
    return Prompts(harmful, harmless)


def race(
    places: Sequence[Place],
    prompts: Prompts,
    measure: Measure,
    thresholds: Thresholds,
    level: float,
    n_nearest: int = 5,
    stopping: Callable[[Iterable[Place]], None] = lambda places: None,
) -> Race:
    """Measure candidates in rounds; those that stop are left out of later ones.

    `measure` gives the scores of candidates on some prompts, in the order of the prompts. When no
    candidate passes, the `n_nearest` that come nearest are measured in full, so that a diagnosis has numbers.
    `stopping` hears of all that have stopped, after every round.
    """
    runners, none = {place: _Runner() for place in places}, Prompts((), ())
    stopped: dict[Place, str] = {}

    def extend(chosen: Sequence[Place], upto: Prompts) -> None:
        for start in dict.fromkeys(runners[place].seen for place in chosen):
            same = [place for place in chosen if runners[place].seen == start]
            rest = upto.after(start)
            if rest != none:
                for place, scores in measure(same, rest).items():
                    runners[place].extend(scores, upto)

    n_tests = 3 * (len(ROUNDS) - 1)
    each, paired = level / 2 / n_tests, level / 2 / (max(1, len(places) - 1) * (len(ROUNDS) - 1))
    for share in ROUNDS:
        seen = prompts.cut(share)
        alive = [place for place in places if place not in stopped]
        extend([place for place in alive if runners[place].seen != prompts], seen)
        if share == ROUNDS[-1] or min(len(seen.harmful), len(seen.harmless)) < MIN_PROMPTS:
            continue
        stopped |= _failing({p: runners[p] for p in alive if runners[p].seen != prompts}, thresholds, each)
        leader = _leader({place: runners[place] for place in alive if place not in stopped}, thresholds)
        if leader is not None:
            extend([leader], prompts)
        rivals = {place: runners[place] for place in alive if place not in stopped}
        stopped |= _beaten(rivals, prompts, thresholds, each, paired)
        stopping(stopped)
    if not any(_passes(runners[place], place, thresholds) for place in places if place not in stopped):
        nearest = sorted(stopped, key=lambda place: _shortfall(runners[place], place, thresholds))[:n_nearest]
        extend(nearest, prompts)
        stopped = {place: why for place, why in stopped.items() if place not in nearest}
    return Race({place: in_order(runners[place].scores, prompts) for place in places}, stopped)


class _Runner:
    """A candidate's scores so far."""

    def __init__(self):
        self.seen = Prompts((), ())
        self.scores = PromptScores((), (), ())

    def extend(self, more: PromptScores, seen: Prompts) -> None:
        s = self.scores
        self.scores = PromptScores(s.bypass + more.bypass, s.induce + more.induce, s.kl + more.kl)
        self.seen = seen


def lower_bound(values: Sequence[float], level: float) -> float:
    """One-sided lower bound of a mean: mean - t s / sqrt(n); -inf for fewer than two values."""
    n = len(values)
    if n < 2:
        return -math.inf
    error = np.std(values, ddof=1) / math.sqrt(n)
    return float(np.mean(values) - _quantile(1 - level, n - 1) * error)


@cache
def _quantile(probability: float, freedom: int) -> float:
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]  # a second to load, and of a race alone

    return float(cast(Any, stats.t.ppf(probability, freedom)))


def _failing(runners: Mapping[Place, _Runner], thresholds: Thresholds, level: float) -> dict[Place, str]:
    """Candidates that fail a threshold with confidence, and by which; one score that is not finite is enough."""
    reasons: dict[Place, str] = {}
    for place, runner in runners.items():
        s = runner.scores
        tests = {
            "not_finite": not all(map(math.isfinite, (*s.bypass, *s.induce, *s.kl))),
            "kl": lower_bound(s.kl, level) > thresholds.kl,
            "induce": lower_bound([-x for x in s.induce], level) > -thresholds.induce,
            "bypass": lower_bound(s.bypass, level) > thresholds.bypass,
        }
        why = next((name for name, fails in tests.items() if fails), None)
        if why:
            reasons[place] = why
    return reasons


def _surely_passes(scores: PromptScores, thresholds: Thresholds, level: float) -> bool:
    return (
        lower_bound([-x for x in scores.kl], level) >= -thresholds.kl
        and lower_bound(scores.induce, level) >= thresholds.induce
        and lower_bound([-x for x in scores.bypass], level) >= -thresholds.bypass
    )


def _leader(runners: Mapping[Place, _Runner], thresholds: Thresholds) -> Place | None:
    """The smallest bypass among candidates that pass on the prompts they have seen."""
    passing = [place for place, runner in runners.items() if _passes(runner, place, thresholds)]
    return min(passing, key=lambda place: _mean(runners[place], place).bypass, default=None)


def _beaten(
    runners: Mapping[Place, _Runner], prompts: Prompts, thresholds: Thresholds, level: float, paired_level: float
) -> dict[Place, str]:
    """Candidates whose bypass is, with confidence, above that of the best measured in full and surely passing."""
    full = {
        place: runner
        for place, runner in runners.items()
        if runner.seen == prompts and _surely_passes(runner.scores, thresholds, level)
    }
    best = _leader(full, thresholds)
    if best is None:
        return {}
    reference = full[best].scores.bypass
    reasons: dict[Place, str] = {}
    for place, runner in runners.items():
        differences = [a - b for a, b in zip(runner.scores.bypass, reference, strict=False)]
        if runner.seen != prompts and lower_bound(differences, paired_level) > 0:
            reasons[place] = BEATEN
    return reasons


def _mean(runner: _Runner, place: Place) -> CandidateScores:
    return runner.scores.candidate(*place)


def _passes(runner: _Runner, place: Place, thresholds: Thresholds) -> bool:
    return rejection(_mean(runner, place), thresholds) is None


def _shortfall(runner: _Runner, place: Place, thresholds: Thresholds) -> float:
    value = shortfall(_mean(runner, place), thresholds)
    return value if math.isfinite(value) else math.inf


def in_order(scores: PromptScores, prompts: Prompts) -> PromptScores:
    """Scores by prompt number of scores in the order of `prompts`, NaN where there are none."""

    def placed(rows: Sequence[float], numbers: Sequence[int]) -> tuple[float, ...]:
        by_number = dict(zip(numbers, rows, strict=False))
        return tuple(by_number.get(number, math.nan) for number in range(len(numbers)))

    return PromptScores(
        placed(scores.bypass, prompts.harmful),
        placed(scores.induce, prompts.harmless),
        placed(scores.kl, prompts.harmless),
    )
