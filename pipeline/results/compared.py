"""The chosen direction beside its controls, and the choice of each other way to find one beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.artifacts import prompt_scores, records
from pipeline.artifacts.kinds import EstimatorChoice, TestedRows
from pipeline.artifacts.layout import Layout
from pipeline.disk import shape
from pipeline.maths import evaluation
from pipeline.maths.comparisons import Difference, Outcomes, differences
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate, mean
from pipeline.names import MEAN_DIFFERENCE, OWN_LENGTH
from pipeline.results.choosing import Addition, Effect, KlScore, MetricScore
from pipeline.results.values import Change


def val_scores(
    layout: Layout, selection: Mapping[str, Any], pinned: str, seed: int
) -> dict[str, MetricScore | KlScore]:
    """The three selection scores of the chosen direction and its controls; none without a direction."""
    chosen = selection["chosen"]
    if chosen is None:
        return {}
    sweep = prompt_scores.read_sweep(layout.prompt_scores, pinned)
    scores = sweep.candidates[chosen["position"], chosen["layer"]]
    assert scores is not None, "a candidate without direction is never chosen"
    controls = prompt_scores.read_control_scores(layout.control_scores)
    by_score = evaluation.val_scores(scores, controls, sweep.harmful_metric, sweep.harmless_metric, seed)
    return {name: _scored(row) for name, row in by_score.items()}


def _scored(row: evaluation.Scored) -> MetricScore | KlScore:
    controls = dict(row.controls)
    if row.baseline is None or row.change is None:
        return KlScore(row.direction, controls, row.rank)
    change = Change(**asdict(row.change), detectable=row.detectable)
    return MetricScore(row.baseline, row.direction, change, controls, row.rank)


def estimators(
    layout: Layout, selection: Mapping[str, Any], outcomes: Mapping[Label, Outcomes], seed: int
) -> dict[str, dict[str, Any]]:
    """Each estimator's choice, and how its effects differ from those of the difference in means."""
    choices = shape.read_record(layout.estimators, dict[str, EstimatorChoice])
    places = {name: records.place_of(choice["evaluated"]) for name, choice in choices.items()}
    same = places.get(MEAN_DIFFERENCE) is not None and places[MEAN_DIFFERENCE] == records.place_of(selection["chosen"])
    evaluated = {name: place is not None for name, place in places.items()}
    answers = evaluation.estimator_comparisons(outcomes, evaluated, same)
    with shape.as_written(layout.estimators):
        tested = _tested({name: choice["test"] for name, choice in choices.items() if "test" in choice}, seed)
    return {
        name: {
            **{key: value for key, value in choice.items() if key not in ("prompts", "candidates", "test")},
            "conditions_of": "" if same and name == MEAN_DIFFERENCE else name,
            "against_mean_difference": answers.get(name, {}),
            **tested.get(name, {"ablation": None, "additions": {}}),
        }
        for name, choice in choices.items()
    }


def _tested(rows: Mapping[str, TestedRows], seed: int) -> dict[str, dict[str, Any]]:
    """Effects on test prompts by estimator; Holm's correction is over all comparisons with the difference in means."""
    against = _against_mean_difference(rows, seed)
    tested: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        harmful, harmless = row["unchanged"]["harmful"], row["unchanged"]["harmless"]
        assert all(len(each["kl"]) in (0, len(harmless)) for each in (row, *row["added"].values())), name
        additions: dict[str, Addition] = {}
        for terms, each in row["added"].items():
            effect = _effect(harmless, each["metric"], each["kl"], against.get((name, terms)), seed, each["note"])
            additions[terms] = Addition(**vars(effect), coefficient=each["coefficient"], length=each["length"])
        ablation = _effect(harmful, row["bypass"], row["kl"], against.get((name, "ablation")), seed)
        tested[name] = {"ablation": ablation, "additions": additions}
    return tested


def _against_mean_difference(rows: Mapping[str, TestedRows], seed: int) -> dict[tuple[str, str], Difference]:
    """Differences of the refusal metric by estimator and effect, additions by their terms."""
    if MEAN_DIFFERENCE not in rows:
        return {}
    family: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    reference = rows[MEAN_DIFFERENCE]
    own = reference["added"][OWN_LENGTH]["metric"]
    for name, row in rows.items():
        if name != MEAN_DIFFERENCE:
            family[name, "ablation"] = reference["bypass"], row["bypass"]
            family |= {(name, terms): (own, each["metric"]) for terms, each in row["added"].items() if each["metric"]}
    return differences(family, seed)


def _effect(
    unchanged: Sequence[float],
    metric: Sequence[float],
    kl: Sequence[float],
    against: Difference | None,
    seed: int,
    note: str = "",
) -> Effect:
    if note:
        none = Estimate(None, None, None, 0, note)
        return Effect(none, none, none, None)
    change = [after - before for before, after in zip(unchanged, metric, strict=True)]
    return Effect(mean(metric, seed), mean(change, seed), mean(kl, seed), against)
