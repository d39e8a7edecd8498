"""What capability was measured of: the conditions, and the summary with where each task is from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.capability import files as answers
from pipeline.capability.maths import summary
from pipeline.config.measuring import CapabilityConfig

if TYPE_CHECKING:
    from pipeline.maths.interventions import Intervention

CONTROL = "random_0"


def conditions(sources: "Mapping[str, Mapping[str, Intervention]]") -> "dict[str, Intervention]":
    """The unchanged model, the chosen direction ablated and added, and one control ablated."""
    named = {effect: sources[""][effect] for effect in ("ablation", "addition") if sources}
    if CONTROL in sources:
        named[f"ablation.{CONTROL}"] = sources[CONTROL]["ablation"]
    return {"baseline": None, **named}


def whole_summary(
    settings: CapabilityConfig, rows: Mapping[str, Mapping[str, Any]], harness: str, missing: str
) -> dict[str, Any]:
    """Scores of every task, from rows of `files.task_row` by condition and task; `missing`: why there is no export."""
    by_task = {task: {name: answers.read_answers(done[task]) for name, done in rows.items()} for task in settings.tasks}
    scores = summary(by_task)
    for task, spec in settings.tasks.items():
        reported = {name: done[task]["harness"] for name, done in rows.items()}
        scores[task] |= {"metric": spec.metric, "source": spec.source, "licence": spec.licence, "harness": reported}
    suite = {"suite": settings.name, "dtype": settings.dtype, "limit": settings.limit}
    return {**suite, "harness": harness, "export_missing": missing, "tasks": scores}
