"""From verdicts to the numbers of the tables: rates, paired comparisons, ranks among controls, agreement."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.maths.comparisons import Comparison, Outcomes, compare, holm, rank, smallest_mean_change
from pipeline.maths.labels import BASELINE, Label, is_null, strength
from pipeline.maths.selection import PromptScores
from pipeline.maths.statistics import Estimate, kappa, mean, rate
from pipeline.names import ESTIMATOR_NAMES, MEAN_DIFFERENCE

LEAST_IN_CATEGORY = 10  # of fewer prompts a rate says next to nothing


def refusal_scores(outcomes: Mapping[str, Outcomes]) -> dict[str, dict[str, Any]]:
    """Rate with interval of every condition that has a verdict; the chosen direction's have their rank.

    The rank is by the change from the baseline, among random and shuffled directions.
    """
    rates = {name: rate(known) for name, rows in outcomes.items() if (known := _known(rows))}
    return {name: {**asdict(estimate), "rank": _rank(name, rates)} for name, estimate in rates.items()}


def _known(rows: Outcomes) -> list[bool]:
    return [value for value in rows.values() if value is not None]


def _rank(name: str, rates: Mapping[str, Estimate]) -> dict[str, Any] | None:
    label = Label.parse(name)
    if label.effect == BASELINE or label.source or label.baseline not in rates:
        return None
    before = rates[label.baseline].value or 0.0
    strengths = {
        other.source: strength(label.effect, before, rates[str(other)].value or 0.0)
        for other in map(Label.parse, rates)
        if (other.kind, other.effect) == (label.kind, label.effect)
    }
    nulls = [strengths[source] for source in strengths if is_control(source) and is_null(source)]
    found = rank(strengths[""], nulls)
    return asdict(found) if found else None


def is_control(source: str) -> bool:
    """A source that is neither the chosen direction nor an estimator."""
    return bool(source) and source not in ESTIMATOR_NAMES


def comparisons(outcomes: Mapping[str, Outcomes]) -> dict[str, Comparison]:
    """Every condition against its baseline on the same prompts.

    Holm's correction is over families: the chosen direction's effects, the controls', the estimators', and
    those on each further set and under each system prompt together.
    """
    families: dict[str, dict[str, Comparison]] = {"direction": {}, "controls": {}, "estimators": {}, "further": {}}
    for name, rows in outcomes.items():
        label = Label.parse(name)
        if label.effect != BASELINE:
            expected = "" if label.source else "higher" if label.effect == "addition" else "lower"
            family = _family(label)
            families[family][name] = compare(outcomes[label.baseline], rows, expected)
    corrected = {name: row for family in families.values() for name, row in holm(family).items()}
    return {name: corrected[name] for name in outcomes if name in corrected}


def _family(label: Label) -> str:
    if not label.is_main:
        return "further"
    if not label.source:
        return "direction"
    return "controls" if is_control(label.source) else "estimators"


def safety_scores(outcomes: Mapping[str, Outcomes]) -> dict[str, Any]:
    """Share of safe completions of every condition, and each against its baseline on the same prompts.

    `outcomes`: condition -> whether each completion is safe. No direction of change is expected: a model that
    answers in few words stays safe.
    """
    scores = refusal_scores(outcomes)
    families: dict[str, dict[str, Comparison]] = {}
    for name, rows in outcomes.items():
        label = Label.parse(name)
        if label.effect != BASELINE:
            families.setdefault(_family(label), {})[name] = compare(outcomes[label.baseline], rows)
    return {
        "score": scores,
        "comparisons": {name: asdict(row) for family in families.values() for name, row in holm(family).items()},
        "unknown": {name: sum(value is None for value in rows.values()) for name, rows in outcomes.items()},
    }


def by_category(outcomes: Outcomes, categories: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Rate with interval of all prompts under `all`, and per category that has at least LEAST_IN_CATEGORY."""
    groups = {"all": dict(outcomes)}
    for key, value in outcomes.items():
        groups.setdefault(categories[key] or "none", {})[key] = value
    return {
        name: asdict(rate(known))
        for name, rows in sorted(groups.items())
        if (known := _known(rows)) and (name == "all" or len(rows) >= LEAST_IN_CATEGORY)
    }


def moved_controls(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Null controls whose refusal score lies outside their baseline's 95 % interval."""
    moved = []
    for name, row in scores.items():
        label = Label.parse(name)
        if is_control(label.source) and is_null(label.source) and label.baseline in scores:
            baseline = scores[label.baseline]
            if not baseline["low"] <= row["value"] <= baseline["high"]:
                moved.append(name)
    return moved


def estimator_comparisons(
    outcomes: Mapping[str, Outcomes], evaluated: Mapping[str, bool], same: bool
) -> dict[str, dict[str, Comparison]]:
    """Each estimator that was evaluated against the difference in means, on the same prompts, by effect.

    `same`: among the compared places the difference in means has the pipeline's own direction, so its
    completions are those of the chosen direction. Holm's correction is over all of them together.
    """
    reference = "" if same else MEAN_DIFFERENCE
    if not evaluated.get(MEAN_DIFFERENCE):
        return {}
    family: dict[tuple[str, str], Comparison] = {}
    for kind, effect in (("harmful", "ablation"), ("harmless", "addition")):
        for name in (name for name, there in evaluated.items() if there and name != MEAN_DIFFERENCE):
            pair = (str(Label(kind, effect, reference)), str(Label(kind, effect, name)))
            family[name, effect] = compare(outcomes[pair[0]], outcomes[pair[1]])
    corrected = holm({f"{name} {effect}": row for (name, effect), row in family.items()})
    found: dict[str, dict[str, Comparison]] = {}
    for name, effect in family:
        found.setdefault(name, {})[effect] = corrected[f"{name} {effect}"]
    return found


def agreement(verdicts: Mapping[str, Mapping[str, Outcomes]]) -> dict[str, dict[str, Any]]:
    """Share of equal verdicts and Cohen's kappa of each pair of judges, per condition; unknown ones are left out.

    `verdicts`: judge -> condition -> outcomes.
    """
    table: dict[str, dict[str, Any]] = {}
    for first, second in combinations(verdicts, 2):
        rows = {}
        for condition in verdicts[first]:
            pairs = [
                (bool(a), bool(b))
                for key, a in verdicts[first][condition].items()
                if a is not None and (b := verdicts[second][condition].get(key)) is not None
            ]
            if pairs:
                rows[condition] = {
                    "equal": asdict(rate([a == b for a, b in pairs])),
                    "kappa": asdict(kappa([a for a, _ in pairs], [b for _, b in pairs])),
                    f"only_{first}": sum(a and not b for a, b in pairs),
                    f"only_{second}": sum(b and not a for a, b in pairs),
                }
        table[f"{first} and {second}"] = rows
    return table


def rates_by_length(outcomes: Mapping[str, Mapping[int, Outcomes]]) -> dict[str, dict[str, Any]]:
    """Refusal score with interval of each condition after each number of generated tokens."""
    return {
        name: {str(length): asdict(rate(known)) for length, rows in lengths.items() if (known := _known(rows))}
        for name, lengths in outcomes.items()
    }


def val_scores(
    chosen: PromptScores,
    controls: Mapping[str, PromptScores],
    harmful_metric: Sequence[float],
    harmless_metric: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """bypass, induce and KL of the direction and its controls with bootstrap intervals, and its ranks.

    `change` is the paired difference from the unchanged model's metric on the same prompts, with the
    smallest one that n prompts show with 80 % power.
    """
    metric = {"bypass": harmful_metric, "induce": harmless_metric}
    effect = {"bypass": "ablation", "induce": "addition"}
    nulls = [scores for name, scores in controls.items() if is_null(name)]
    found: dict[str, Any] = {}
    for name, before in metric.items():
        rows = {source: getattr(scores, name) for source, scores in {"": chosen, **controls}.items()}
        change = [after - plain for plain, after in zip(before, rows[""], strict=True)]
        base = float(np.mean(before))
        found[name] = {
            "baseline": asdict(mean(before, seed)),
            "direction": asdict(mean(rows[""], seed)),
            "change": {**asdict(mean(change, seed)), "detectable": smallest_mean_change(change)},
            "controls": {source: asdict(mean(rows[source], seed)) for source in controls},
            "rank": _strength_rank(effect[name], base, rows[""], [getattr(scores, name) for scores in nulls]),
        }
    found["kl"] = {
        "direction": asdict(mean(chosen.kl, seed)),
        "controls": {source: asdict(mean(scores.kl, seed)) for source, scores in controls.items()},
        "rank": _rank_record(float(np.mean(chosen.kl)), [float(np.mean(scores.kl)) for scores in nulls]),
    }
    return found


def _strength_rank(
    effect: str, base: float, rows: Sequence[float], nulls: Sequence[Sequence[float]]
) -> dict[str, Any] | None:
    value, *controls = (strength(effect, base, float(np.mean(part))) for part in (rows, *nulls))
    return _rank_record(value, controls)


def _rank_record(value: float, controls: Sequence[float]) -> dict[str, Any] | None:
    found = rank(value, controls)
    return asdict(found) if found else None
