"""capability: task scores of the unchanged model, under interventions and of the export, on the same questions."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import records, samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.capability import files as answers
from pipeline.capability.maths import summary
from pipeline.capability.questions import find_files, read_questions
from pipeline.config.schema import CapabilityTask, Config
from pipeline.disk import files
from pipeline.disk.rows import PartialRows
from pipeline.entry.folders import cache_folder, mirror_folder
from pipeline.entry.model import open_model
from pipeline.errors import UserError
from pipeline.sources import Artefact, fetch

if TYPE_CHECKING:
    from pipeline.capability.model import Task
    from pipeline.maths.interventions import Intervention
    from pipeline.model.loading.loading import ChatModel

HARNESS = f"lm-eval {version('lm-eval')}"
CONTROL = "random_0"
NO_EXPORT = "engine.quantize is for measuring only: rounded weights cannot be edited"


def capability(config: Config, layout: Layout) -> None:
    """Items per condition and summary.json; tasks that an interrupted run finished are not run again.

    Without tasks only a summary that has none.
    """
    if not config.capability.tasks:
        files.write_json(layout.capability, _summary(config, {}, "no tasks"))
        return
    tasks = [_task(config, name, spec) for name, spec in config.capability.tasks.items()]
    conditions = _conditions(layout, identity(config.model.source), config.generate.coefficient)
    model = open_model(config, config.capability.dtype)
    partials = {name: _run(config, layout, model, tasks, name, conditions[name]) for name in conditions}
    reason = _edit(config, layout, model)
    if not reason:
        partials["export"] = _run(config, layout, model, tasks, "export", conditions["ablation"])
    rows = {name: {row["task"]: row for row in partial.rows} for name, partial in partials.items()}
    for name, done in rows.items():
        answers.write_items(layout.capability_items(name), [done[task.name] for task in tasks])
    files.write_json(layout.capability, _summary(config, rows, reason))
    for partial in partials.values():
        partial.discard()


def _task(config: Config, name: str, spec: CapabilityTask) -> "Task":
    from pipeline.capability.model import Task

    if spec.places:
        artefact = Artefact(spec.file, spec.sha256, tuple(spec.places))
        found = [fetch(artefact, cache_folder(config), mirror_folder(config))]
    else:
        found = find_files(name, Path(config.capability.folder or "").expanduser(), spec.file) if spec.file else []
    rows = [row for path in found for row in read_questions(name, path)]
    return Task(name, spec.base, spec.metric, spec.options, rows or None)


def _conditions(layout: Layout, pinned: str, coefficient: float) -> "dict[str, Intervention]":
    sources = samples.read_sources(layout, pinned, coefficient, estimators=False)
    named = {effect: sources[""][effect] for effect in ("ablation", "addition") if sources}
    if CONTROL in sources:
        named[f"ablation.{CONTROL}"] = sources[CONTROL]["ablation"]
    return {"baseline": None, **named}


def _edit(config: Config, layout: Layout, model: "ChatModel") -> str:
    """Orthogonalise the loaded model's weights, in place; why not, where there is nothing to edit or no way."""
    from pipeline.export.model.surgery import orthogonalize_weights, untie

    direction = records.read_direction(layout.direction, layout.selection, identity(config.model.source))
    if direction is None or config.engine.quantize:
        return NO_EXPORT if direction else records.read_selection(layout.selection)["reason"]
    try:
        untie(model)
        orthogonalize_weights(model, direction)
    except UserError as error:
        return str(error)
    return ""


def _run(
    config: Config, layout: Layout, model: "ChatModel", tasks: "list[Task]", name: str, intervention: "Intervention"
) -> PartialRows:
    """A row per task. `export` runs on edited weights; its intervention says only what they were edited by."""
    from pipeline.capability.model import run
    from pipeline.model.passes.intervene import intervene

    settings = config.capability
    made_by = [HARNESS, identity(config.model.source), name, samples.intervention_recipe(intervention), config.seed]
    asked = [[asdict(task) for task in tasks], settings.dtype, settings.limit, settings.batch_size]
    key = files.content_hash([made_by, asked, vars(config.engine)])
    partial = PartialRows(layout.partial(f"capability-{key}"))
    done = {row["task"] for row in partial.rows}
    for task in tasks:
        if task.name not in done:
            with intervene(model, None if name == "export" else intervention):
                found = run(model, task, settings.limit, config.seed, settings.batch_size, f"{task.name}, {name}")
            partial.append([answers.task_row(task.name, found.answers, found.value, found.stderr)])
    return partial


def _summary(config: Config, rows: Mapping[str, Mapping[str, Any]], reason: str) -> dict[str, Any]:
    settings = config.capability
    by_task = {task: {name: answers.read_answers(done[task]) for name, done in rows.items()} for task in settings.tasks}
    found = summary(by_task, config.seed)
    for task, spec in settings.tasks.items():
        reported = {name: done[task]["harness"] for name, done in rows.items()}
        found[task] |= {"metric": spec.metric, "source": spec.source, "licence": spec.licence, "harness": reported}
    kept = {"suite": settings.name, "dtype": settings.dtype, "limit": settings.limit}
    return {**kept, "harness": HARNESS, "export_missing": reason, "tasks": found}
