"""Paired tests of an intervention against its baseline, and the effect's rank among its controls.

scipy and statsmodels are imported where they are used: loading them takes a second.
"""

# pyright: reportUnknownMemberType=false
# Scipy and statsmodels have no annotations.

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np

from pipeline.maths.statistics import Estimate, newcombe_difference

ALPHA = 0.05
POWER = 0.8
LEAST_RANKED = 19  # controls among which first place has p = 0.05; among fewer no place could say as much
BACK = 0.02  # share of prompts that change against an effect whatever it does: with what `detectable` reckons
Outcomes = Mapping[str, bool | None]
K = TypeVar("K", bound=Hashable)
NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Comparison:
    """Refusal score after minus before on the same prompts, with Newcombe's 95 % interval of the paired change.

    `gained` and `lost` count prompts refused only after and only before; `p` is McNemar's exact two-sided test,
    `p_holm` the same corrected for every comparison of its family, None for a control. `detectable`: the smallest
    change that n prompts show with 80 % power when BACK of them move the other way, at the level that Holm's
    correction leaves to the first of the family; None where there is none. `verdict` is `lower`, `higher` or
    `no difference shown`, of an effect by `p_holm`, of a control by whether its interval holds 0; or `not testable`,
    the reason in `note`.
    """

    change: Estimate
    gained: int
    lost: int
    p: float | None
    detectable: float | None
    p_holm: float | None = None
    verdict: str = "not testable"
    note: str = ""


def compare(before: Outcomes, after: Outcomes, expected: str = "", level: float = ALPHA) -> Comparison:
    """Paired comparison over the prompts that have a verdict in both; others are left out of n. Not corrected.

    `expected`: `lower` or `higher`, what the intervention is said to do; `level`: at which p shows something, ALPHA
    over the size of the family. Not testable: no such prompt, or so few that refuse (or answer) before that even if all
    changed as expected it could be chance.
    """
    pairs = [(a, b) for a, b in ((before[key], after.get(key)) for key in before) if a is not None and b is not None]
    n = len(pairs)
    if n == 0:
        none = Estimate(None, None, None, 0, "no prompt has a verdict in both")
        return Comparison(none, 0, 0, None, None, note=none.note)
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    gained, lost = sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs)
    change = Estimate((gained - lost) / n, *newcombe_difference(first, second), n)
    if note := _too_few(first, expected, fewest_flips(level)):
        return Comparison(change, gained, lost, None, None, note=note)
    from statsmodels.stats.contingency_tables import mcnemar  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    table = np.array([[sum(a and b for a, b in pairs), lost], [gained, sum(not a and not b for a, b in pairs)]])
    test = cast(Any, mcnemar(table, exact=True))
    return Comparison(change, gained, lost, min(1.0, float(test.pvalue)), smallest_change(n, level))


def _too_few(before: Sequence[bool], expected: str, needed: int) -> str:
    """Why no change, or not the expected one, could be told from chance; empty when it could."""
    n, refused = len(before), sum(before)
    if n < needed:
        return f"{n} prompts: {needed} must change before a change can be told from chance"
    if expected == "lower" and refused < needed:
        return f"too few refusals for a claim: {refused} of {n} refused before, {needed} must stop"
    if expected == "higher" and n - refused < needed:
        return f"too few answers for a claim: {n - refused} of {n} answered before, {needed} must be refused"
    return ""


def compare_family(pairs: Mapping[K, tuple[Outcomes, Outcomes, str]]) -> dict[K, Comparison]:
    """Comparisons that are corrected together: before, after and what is expected of each."""
    level = ALPHA / max(1, len(pairs))
    return holm({name: compare(*pair, level=level) for name, pair in pairs.items()})


def compare_control(before: Outcomes, after: Outcomes) -> Comparison:
    """Of a control, which shall be seen to move when it does: no correction, and a verdict by the interval.

    Among many controls one interval in twenty leaves out 0 by chance.
    """
    found = compare(before, after)
    moved = found.p is not None and not found.change.holds(0.0)
    return found if found.p is None else replace(found, verdict=_direction(found) if moved else NO_DIFFERENCE)


def holm(family: Mapping[K, Comparison]) -> dict[K, Comparison]:
    """The family with Holm's correction over its testable members, and verdicts."""
    p_values = corrected({name: comparison.p for name, comparison in family.items()})
    return {
        name: replace(comparison, p_holm=p_values[name], verdict=_verdict(comparison, p_values[name]))
        if name in p_values
        else comparison
        for name, comparison in family.items()
    }


def corrected(values: Mapping[K, float | None]) -> dict[K, float]:
    """p-values of one family after Holm's correction (step-down Bonferroni), where something was tested."""
    tested = {name: p for name, p in values.items() if p is not None}
    if not tested:
        return {}
    from statsmodels.stats.multitest import multipletests  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    adjusted = cast(Any, multipletests(list(tested.values()), alpha=ALPHA, method="holm"))[1]
    return dict(zip(tested, map(float, adjusted), strict=True))


def _verdict(comparison: Comparison, p: float) -> str:
    return _direction(comparison) if p < ALPHA else NO_DIFFERENCE


def _direction(comparison: Comparison) -> str:
    return "higher" if comparison.gained > comparison.lost else "lower"


def fewest_flips(level: float = ALPHA) -> int:
    """Prompts that must change, all one way, before McNemar's exact two-sided test gives p < level.

    Six for 0.05; seven where Holm's correction is over two or three comparisons, 2 * 0.5^7 being below 0.05 / 3.
    """
    count = 1
    while 2 * 0.5**count >= level:
        count += 1
    return count


@cache
def smallest_change(n: int, level: float = ALPHA, back: float = BACK) -> float | None:
    """Smallest net change of a rate that n paired prompts show with 80 % power; None where no change would.

    The share `back` of all prompts changes the other way whatever is done, and `back` plus the net change this way. The
    test is McNemar's exact two-sided one at `level`. See `power`.
    """
    from scipy.optimize import brentq  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    def excess(change: float) -> float:
        return power(n, change, level, back) - POWER

    largest = 1 - 2 * back
    return float(cast(Any, brentq(excess, 0.0, largest))) if excess(largest) > 0 else None


def power(n: int, change: float, level: float = ALPHA, back: float = BACK) -> float:
    """Chance that McNemar's exact two-sided test shows a net change, when `back` of the prompts move against it.

    Exact: the sum over d, the number of prompts that change (binomial), of the chance that so few of them go back that
    the test of d gives p < level.
    """
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

    binomial: Any = stats.binom
    changed, share = np.arange(n + 1), change + 2 * back
    first: Any = binomial.ppf(level / 2, changed, 0.5)  # the smallest k with P(X <= k) >= level / 2
    most = first - (2 * binomial.cdf(first, changed, 0.5) >= level)  # with p < level
    return float((binomial.pmf(changed, n, share) * binomial.cdf(most, changed, back / share)).sum())


def smallest_mean_change(differences: Sequence[float]) -> float | None:
    """Smallest mean of paired differences that their number shows with 80 % power (t test, two-sided 5 %)."""
    from statsmodels.stats.power import TTestPower  # pyright: ignore[reportMissingTypeStubs]

    rows = np.asarray(differences, dtype=float)
    if rows.size < 2 or np.ptp(rows) == 0:
        return None
    effect = cast(Any, TTestPower().solve_power(nobs=rows.size, alpha=ALPHA, power=POWER))
    return float(np.asarray(effect).item() * rows.std(ddof=1))


@dataclass(frozen=True)
class Rank:
    """Place of an effect among `n` controls: 1 when it is larger than every one of them.

    `p` = (1 + controls at least as large) / (1 + n), the one-sided Monte Carlo p-value when controls are
    exchangeable with the direction (random directions are; another layer's direction is not).
    """

    rank: int
    n: int
    p: float


def rank(effect: float, controls: Sequence[float], tolerance: float = 1e-12) -> Rank | None:
    """Rank of an effect, signed so that larger is stronger; ties count against it. None among fewer than LEAST_RANKED.

    Raises ValueError for an effect or a control that is not finite.
    """
    if not np.isfinite([effect, *controls]).all():
        raise ValueError(f"a rank needs finite effects, got {effect} among {list(controls)}")
    if len(controls) < LEAST_RANKED:
        return None
    at_least = sum(control >= effect - tolerance for control in controls)
    return Rank(1 + at_least, len(controls), (1 + at_least) / (1 + len(controls)))
