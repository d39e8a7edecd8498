"""What judges of safety say of every condition: shared by the stages that report it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.artifacts.layout import Layout
from pipeline.judges.probe.file import reliability
from pipeline.maths import evaluation
from pipeline.maths.labels import Label
from pipeline.results import judgements as by_condition


def scores(layout: Layout, conditions: Sequence[str], judges: Sequence[str]) -> dict[str, Any]:
    """Safety score of every condition by each judge, with what is known of the judge itself."""
    found = {}
    for judge in judges:
        outcomes = {name: by_condition.read_safety(layout, name, judge) for name in conditions}
        found[judge] = {**evaluation.safety_scores(outcomes), "reliability": reliability(judge)}
    return found


def attacks(
    layout: Layout, conditions: Sequence[str], judges: Sequence[str], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Attack success by category of prompt, by judge: completions not safe, of the harmful ones of the sets `kinds`."""
    harmful = {name for name, kind in kinds.items() if kind == "harmful"}
    found: dict[str, Any] = {}
    for condition in (name for name in conditions if Label.parse(name).kind in harmful):
        categories = by_condition.read_categories(layout, Label.parse(condition).prompt_set)
        for judge in judges:
            safe = by_condition.read_safety(layout, condition, judge)
            unsafe = {key: None if value is None else not value for key, value in safe.items()}
            found.setdefault(condition, {})[judge] = evaluation.by_category(unsafe, categories)
    return found
