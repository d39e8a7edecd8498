"""capability: task scores of the unchanged model, under interventions and of the export, on the same questions."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from pipeline.artifacts import directions
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.artifacts.resume import unfinished
from pipeline.capability import files as answers
from pipeline.capability.measured import conditions, whole_summary
from pipeline.capability.questions import read_files
from pipeline.config.measuring import CapabilityTask
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.steps import Steps
from pipeline.entry.model import open_model
from pipeline.errors import UserError
from pipeline.stages.shared.editing import edit
from pipeline.stages.shared.instructions import fetched

if TYPE_CHECKING:
    from pipeline.capability.model import Task
    from pipeline.maths.interventions import Intervention
    from pipeline.model.loading.loading import ChatModel

HARNESS = f"lm-eval {version('lm-eval')}"
NO_EXPORT = "engine.quantize is for measuring only: rounded weights cannot be edited"


def capability(config: Config, layout: Layout) -> None:
    """Items per condition and summary.json; tasks that an interrupted run finished are not run again.

    Without tasks only a summary that has none.
    """
    settings = config.capability
    if not settings.tasks:
        files.write_json(layout.capability, whole_summary(settings, {}, HARNESS, "no tasks"))
        return
    tasks, pinned = [_task(config, name, spec) for name, spec in settings.tasks.items()], identity(config.model.source)
    asked = conditions(directions.read_sources(layout, pinned, config.generate.coefficient, estimators=False))
    model = open_model(config, settings.dtype)
    kept = {name: _run(config, layout, model, tasks, name, intervention) for name, intervention in asked.items()}
    try:
        reason = edit(layout, model, pinned, NO_EXPORT if config.engine.quantize else "")
    except UserError as error:
        reason = str(error)
    if not reason:
        kept["export"] = _run(config, layout, model, tasks, "export", asked["ablation"])
    for name, steps in kept.items():
        answers.write_items(layout.capability_items(name), [steps.values[task.name] for task in tasks])
    rows = {name: steps.values for name, steps in kept.items()}
    files.write_json(layout.capability, whole_summary(settings, rows, HARNESS, reason))
    for steps in kept.values():
        steps.discard()


def _task(config: Config, name: str, spec: CapabilityTask) -> "Task":
    from pipeline.capability.model import Task

    rows = read_files(name, spec, config.capability.folder, lambda artefact: fetched(config, artefact))
    return Task(name, spec.base, spec.metric, spec.options, rows or None)


def _run(
    config: Config, layout: Layout, model: "ChatModel", tasks: "list[Task]", name: str, intervention: "Intervention"
) -> Steps:
    """A step per task. `export` runs on edited weights; its intervention says only what they were edited by."""
    from pipeline.capability.model import run
    from pipeline.model.passes.intervene import intervene

    settings, seed = config.capability, config.seed
    made_by = [identity(config.model.source), config.engine, settings.dtype, settings.limit, settings.batch_size, seed]
    kept = unfinished(layout.partial, "capability", HARNESS, made_by, name, intervention, tasks)
    for task in (task for task in tasks if task.name not in kept.values):
        with intervene(model, None if name == "export" else intervention):
            told = run(model, task, settings.limit, seed, settings.batch_size, f"{task.name}, {name}")
        kept.keep({task.name: answers.task_row(task.name, told.answers, told.value, told.stderr)})
    return kept
