"""From verdicts to the numbers of the tables: rates, paired comparisons, ranks among controls, agreement."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

from pipeline.maths.comparisons import (
    NO_DIFFERENCE,
    Comparison,
    Outcomes,
    Rank,
    compare_control,
    compare_family,
    rank,
)
from pipeline.maths.labels import BASELINE, Label, control_kind, is_null, strength
from pipeline.maths.statistics import Estimate, kappa, rate
from pipeline.names import ESTIMATOR_NAMES, MEAN_DIFFERENCE

LEAST_IN_CATEGORY = 10  # of fewer prompts a rate says next to nothing
ByCondition = Mapping[Label, Outcomes]


@dataclass(frozen=True)
class Rate(Estimate):
    """A share of completions, 0 to 1."""

    rank: Rank | None = None
    """Of the direction's effect among random directions, where enough of them answer; None for all other conditions."""


def rates(outcomes: ByCondition) -> dict[Label, Rate]:
    """Rate with interval of every condition that has a verdict; the chosen direction's have their rank.

    The rank is by the change from the baseline, among random directions, where `comparisons.rank` gives one.
    """
    estimates = {label: rate(known) for label, rows in outcomes.items() if (known := _known(rows))}
    return {label: Rate(**vars(estimate), rank=_rank(label, estimates)) for label, estimate in estimates.items()}


def _known(rows: Outcomes) -> list[bool]:
    return [value for value in rows.values() if value is not None]


def _rank(label: Label, found: Mapping[Label, Estimate]) -> Rank | None:
    if label.effect == BASELINE or label.source or label.baseline not in found:
        return None
    before = found[label.baseline].value or 0.0
    strengths = {
        other.source: strength(label.effect, before, found[other].value or 0.0)
        for other in found
        if (other.kind, other.effect) == (label.kind, label.effect)
    }
    return rank(strengths[""], [strengths[source] for source in strengths if control_kind(source) == "random"])


def is_control(source: str) -> bool:
    """A source that is neither the chosen direction nor an estimator."""
    return bool(source) and source not in ESTIMATOR_NAMES


def comparisons(outcomes: ByCondition) -> dict[Label, Comparison]:
    """Every condition against its baseline on the same prompts.

    Holm's correction is over families: the chosen direction's effects, the estimators', and those on each further set
    and under each system prompt together. Controls are not corrected: correction would clear them.
    """

    def expected(label: Label) -> str:
        return "" if label.source else "higher" if label.effect == "addition" else "lower"

    return _compared(outcomes, expected)


def safety_comparisons(outcomes: ByCondition) -> dict[Label, Comparison]:
    """The same by whether each completion is safe.

    No direction of change is expected: a model that answers in few words stays safe.
    """
    return _compared(outcomes, lambda label: "")


def _compared(outcomes: ByCondition, expected: Callable[[Label], str]) -> dict[Label, Comparison]:
    found: dict[Label, Comparison] = {}
    families: dict[str, dict[Label, tuple[Outcomes, Outcomes, str]]] = {}
    for label, rows in outcomes.items():
        if label.effect == BASELINE:
            continue
        before = outcomes[label.baseline]
        if is_control(label.source):
            found[label] = compare_control(before, rows)
        else:
            families.setdefault(_family(label), {})[label] = (before, rows, expected(label))
    for family in families.values():
        found |= compare_family(family)
    return {label: found[label] for label in outcomes if label in found}


def _family(label: Label) -> str:
    if not label.is_main:
        return "further"
    return "estimators" if label.source else "direction"


def unknown(outcomes: ByCondition) -> dict[Label, int]:
    """Completions without a verdict."""
    return {label: sum(value is None for value in rows.values()) for label, rows in outcomes.items()}


def by_category(outcomes: Outcomes, categories: Mapping[str, str]) -> dict[str, Estimate]:
    """Rate with interval of all prompts under `all`, and per category that has at least LEAST_IN_CATEGORY."""
    groups = {"all": dict(outcomes)}
    for key, value in outcomes.items():
        groups.setdefault(categories[key] or "none", {})[key] = value
    return {
        name: rate(known)
        for name, rows in sorted(groups.items())
        if (known := _known(rows)) and (name == "all" or len(rows) >= LEAST_IN_CATEGORY)
    }


def moved_controls(found: Mapping[Label, Comparison]) -> list[Label]:
    """Null controls whose paired change has a 95 % interval without 0."""
    return [label for label, row in _tested_nulls(found).items() if row.verdict != NO_DIFFERENCE]


def nulls_held(found: Mapping[Label, Comparison]) -> int:
    """How many comparisons of null controls could have shown a change."""
    return len(_tested_nulls(found))


def _tested_nulls(found: Mapping[Label, Comparison]) -> dict[Label, Comparison]:
    nulls = {label: row for label, row in found.items() if is_control(label.source) and is_null(label.source)}
    return {label: row for label, row in nulls.items() if row.p is not None}


def estimator_comparisons(
    outcomes: ByCondition, evaluated: Mapping[str, bool], same: bool
) -> dict[str, dict[str, Comparison]]:
    """Each estimator that was evaluated against the difference in means, on the same prompts, by effect.

    `same`: among the compared places the difference in means has the pipeline's own direction, so its
    completions are those of the chosen direction. Holm's correction is over all of them together.
    """
    reference = "" if same else MEAN_DIFFERENCE
    if not evaluated.get(MEAN_DIFFERENCE):
        return {}
    family: dict[tuple[str, str], tuple[Outcomes, Outcomes, str]] = {}
    for kind, effect in (("harmful", "ablation"), ("harmless", "addition")):
        for name in (name for name, there in evaluated.items() if there and name != MEAN_DIFFERENCE):
            before, after = Label(kind, effect, reference), Label(kind, effect, name)
            family[name, effect] = (outcomes[before], outcomes[after], "")
    by_name: dict[str, dict[str, Comparison]] = {}
    for (name, effect), row in compare_family(family).items():
        by_name.setdefault(name, {})[effect] = row
    return by_name


@dataclass(frozen=True)
class Agreement:
    """Two judges on the completions of one condition that both know.

    `equal`: share of equal verdicts; `kappa`: Cohen's; `only`: completions that one judge alone calls refused.
    """

    equal: Estimate
    kappa: Estimate
    only: Mapping[str, int]


def agreement(verdicts: Mapping[str, ByCondition]) -> dict[str, dict[Label, Agreement]]:
    """Agreement of each pair of judges, per condition; completions that either does not know are left out.

    `verdicts`: judge -> condition -> outcomes.
    """
    table: dict[str, dict[Label, Agreement]] = {}
    for first, second in combinations(verdicts, 2):
        rows = table[f"{first} and {second}"] = {}
        for label in verdicts[first]:
            pairs = [
                (bool(a), bool(b))
                for key, a in verdicts[first][label].items()
                if a is not None and (b := verdicts[second][label].get(key)) is not None
            ]
            if pairs:
                rows[label] = Agreement(
                    rate([a == b for a, b in pairs]),
                    kappa([a for a, _ in pairs], [b for _, b in pairs]),
                    {first: sum(a and not b for a, b in pairs), second: sum(b and not a for a, b in pairs)},
                )
    return table


def rates_by_length(outcomes: Mapping[Label, Mapping[int, Outcomes]]) -> dict[Label, dict[int, Estimate]]:
    """Refusal score with interval of each condition after each number of generated tokens."""
    return {
        label: {length: rate(known) for length, rows in lengths.items() if (known := _known(rows))}
        for label, lengths in outcomes.items()
    }
