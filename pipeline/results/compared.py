"""The chosen direction beside its controls, and the choice of each other way to find one beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.artifacts import control_scores, records
from pipeline.artifacts.kinds import ControlScores, EstimatorChoice
from pipeline.artifacts.layout import Layout
from pipeline.disk import shape
from pipeline.maths import evaluation
from pipeline.maths.comparisons import Outcomes, smallest_mean_change
from pipeline.maths.held_out import DIRECTION, ranks
from pipeline.maths.labels import Label
from pipeline.maths.statistics import mean
from pipeline.names import MEAN_DIFFERENCE
from pipeline.results.choosing import HeldOutScores, KlScore, MetricScore, Moved
from pipeline.results.tested import tested
from pipeline.results.values import Change


def beside_controls(layout: Layout) -> dict[str, Any]:
    """`direction`, `controls` and `test_scores` of the metrics; nothing of the three without a direction."""
    record = control_scores.read(layout.control_scores)
    controls = dict(record["directions"])
    chosen = controls.pop(DIRECTION, None)
    return {"direction": chosen, "controls": controls, "test_scores": _held_out(record) if chosen else None}


def _held_out(record: ControlScores) -> HeldOutScores:
    scores, harmful, harmless = record["scores"], record["harmful_metric"], record["harmless_metric"]
    kl = {source: mean(rows["kl"], least=0.0) for source, rows in scores.items()}
    return HeldOutScores(
        bypass=_metric("bypass", harmful, {source: rows["bypass"] for source, rows in scores.items()}),
        subtraction=_metric("subtraction", harmful, {name: rows["subtraction"] for name, rows in scores.items()}),
        induce=_metric("induce", harmless, {source: rows["induce"] for source, rows in scores.items()}),
        kl=KlScore(kl.pop(DIRECTION), kl),
    )


def _metric(name: str, unchanged: Sequence[float], rows: Mapping[str, Sequence[float]]) -> MetricScore:
    moved = {source: Moved(mean(part), _change(unchanged, part)) for source, part in rows.items()}
    return MetricScore(mean(unchanged), moved.pop(DIRECTION), moved, ranks(name, unchanged, rows))


def _change(before: Sequence[float], after: Sequence[float]) -> Change:
    rows = [b - a for a, b in zip(before, after, strict=True)]
    return Change(**vars(mean(rows)), detectable=smallest_mean_change(rows))


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
