"""Paired tests of an intervention against its baseline, and the effect's rank among its controls.

scipy and statsmodels are imported where they are used: loading them takes a second.
"""

# pyright: reportUnknownMemberType=false
# Scipy and statsmodels have no annotations.

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np

from pipeline.maths.statistics import Estimate, newcombe_difference

ALPHA = 0.05
POWER = 0.8
LEAST_RANKED = 19  # controls among which first place has p = 0.05; among fewer no place could say as much
Outcomes = Mapping[str, bool | None]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """Refusal score after minus before on the same prompts.

    `gained` and `lost` count prompts refused only after and only before; `p` is McNemar's exact two-sided
    test, `p_holm` the same corrected for every comparison of its family. `detectable`: the smallest change
    that n prompts show with 80 % power when no prompt moves the other way. `verdict` is `lower`, `higher`,
    `no difference shown`, or `not testable` with the reason in `note`.
    """

    change: Estimate
    gained: int
    lost: int
    p: float | None
    detectable: float | None
    p_holm: float | None = None
    verdict: str = "not testable"
    note: str = ""


def compare(before: Outcomes, after: Outcomes, expected: str = "") -> Comparison:
    """Paired comparison over the prompts that have a verdict in both; others are left out of n.

    `expected`: `lower` or `higher`, what the intervention is said to do. Not testable: no such prompt, or
    so few that refuse (or answer) before that even if all changed as expected it could be chance.
    """
    pairs = [(a, b) for a, b in ((before[key], after.get(key)) for key in before) if a is not None and b is not None]
    n = len(pairs)
    if n == 0:
        none = Estimate(None, None, None, 0, "no prompt has a verdict in both")
        return Comparison(none, 0, 0, None, None, note=none.note)
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    gained, lost = sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs)
    change = Estimate((gained - lost) / n, *newcombe_difference(first, second), n)
    if note := _too_few(first, expected):
        return Comparison(change, gained, lost, None, None, note=note)
    from statsmodels.stats.contingency_tables import mcnemar  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    table = np.array([[sum(a and b for a, b in pairs), lost], [gained, sum(not a and not b for a, b in pairs)]])
    test = cast(Any, mcnemar(table, exact=True))
    return Comparison(change, gained, lost, min(1.0, float(test.pvalue)), smallest_change(n))


def _too_few(before: Sequence[bool], expected: str) -> str:
    """Why no change, or not the expected one, could be told from chance; empty when it could."""
    n, refused, needed = len(before), sum(before), fewest_flips()
    if n < needed:
        return f"{n} prompts: {needed} must change before a change can be told from chance"
    if expected == "lower" and refused < needed:
        return f"too few refusals for a claim: {refused} of {n} refused before, {needed} must stop"
    if expected == "higher" and n - refused < needed:
        return f"too few answers for a claim: {n - refused} of {n} answered before, {needed} must be refused"
    return ""


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
    if p >= ALPHA:
        return "no difference shown"
    return "higher" if comparison.gained > comparison.lost else "lower"


def fewest_flips() -> int:
    """Prompts that must change, all one way, before McNemar's exact two-sided test gives p < 0.05: six."""
    count = 1
    while 2 * 0.5**count >= ALPHA:
        count += 1
    return count


def smallest_change(n: int) -> float:
    """Smallest change of a rate that n paired prompts show with 80 % power, when all changes go one way.

    The number of changed prompts is binomial; at least `fewest_flips` of them make the test significant.
    """
    from scipy.optimize import brentq  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
    from scipy.stats import binom  # pyright: ignore[reportMissingTypeStubs]

    assert n >= fewest_flips(), f"{n} prompts cannot show any change"

    def excess(change: float) -> float:
        return float(cast(Any, binom.sf(fewest_flips() - 1, n, change))) - POWER

    return float(cast(Any, brentq(excess, 1e-9, 1 - 1e-9)))


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
