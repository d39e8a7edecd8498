"""The chosen direction beside its controls, and the choice of each other way to find one beside it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.artifacts import prompt_scores, records
from pipeline.artifacts.kinds import EstimatorChoice
from pipeline.artifacts.layout import Layout
from pipeline.disk import shape
from pipeline.maths import evaluation
from pipeline.maths.comparisons import Outcomes
from pipeline.maths.labels import Label
from pipeline.names import MEAN_DIFFERENCE
from pipeline.results.choosing import KlScore, MetricScore
from pipeline.results.tested import tested
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
    differences = evaluation.estimator_comparisons(outcomes, evaluated, same)
    with shape.as_written(layout.estimators):
        effects = tested({name: choice["test"] for name, choice in choices.items() if "test" in choice}, seed)
    return {
        name: {
            **{key: value for key, value in choice.items() if key not in ("prompts", "candidates", "test")},
            "conditions_of": "" if same and name == MEAN_DIFFERENCE else name,
            "against_mean_difference": differences.get(name, {}),
            **effects.get(name, {"ablation": None, "additions": {}}),
        }
        for name, choice in choices.items()
    }
