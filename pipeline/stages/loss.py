"""loss: cross-entropy of harmless text under each intervention and on the export, and what changed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.artifacts import directions, records
from pipeline.artifacts.layout import TEXTS, Layout
from pipeline.artifacts.provenance import identity
from pipeline.artifacts.resume import unfinished
from pipeline.config.schema import Config
from pipeline.disk import files, shape
from pipeline.disk.steps import Steps
from pipeline.entry.model import open_model
from pipeline.loss.maths import EXPORT, treatments, whole_summary
from pipeline.maths.labels import BASELINE, Label
from pipeline.progress import Bar, progress
from pipeline.results.judgements import read_completions
from pipeline.stages.shared.editing import edit

if TYPE_CHECKING:
    from pipeline.loss.model import Documents
    from pipeline.model.loading.loading import ChatModel

NOT_EDITABLE = "the loaded weights are on disk or packed, so they are not edited here"


def loss(config: Config, layout: Layout) -> None:
    """Loss per token of each text set, and its change, with 95 % intervals over documents.

    What is measured is kept per set and condition: an interrupted run goes on there.
    """
    if not config.loss.n_completions:
        files.write_json(layout.loss, {})
        return
    from pipeline.export.model.surgery import is_editable
    from pipeline.loss.model import n_tokens
    from pipeline.model.passes.intervene import intervene

    pinned, engine = identity(config.model.source), config.engine
    conditions = treatments(directions.read_sources(layout, pinned, config.generate.coefficient, estimators=False))
    model = open_model(config)
    sets = _sets(config, layout, model)
    kept = unfinished(layout.partial, "loss", pinned, engine, sets, conditions)
    sizes = {name: n_tokens(rows.passages) for name, rows in sets.items()}
    total = (len(conditions) + 1) * sum(sizes.values())
    with progress("loss", total, done=sum(sizes[step.split()[0]] for step in kept.values)) as bar:
        for name, intervention in conditions.items():
            with intervene(model, intervention):
                _measure(model, name, sets, kept, engine.max_batch_tokens, bar)
        reason = edit(layout, model, pinned, "" if is_editable(model) else NOT_EDITABLE)
        _measure(model, EXPORT, {} if reason else sets, kept, engine.max_batch_tokens, bar)
        bar.total(total - (sum(sizes.values()) if reason else 0))
    result, named = {}, [*conditions, *([] if reason else [EXPORT])]
    for name, rows in sets.items():
        losses = {condition: kept.values[f"{name} {condition}"] for condition in named}
        result[name] = {**whole_summary(losses, rows.counts, reason), "sources": rows.sources}
    files.write_json(layout.loss, result)
    kept.discard()


def _sets(config: Config, layout: Layout, model: "ChatModel") -> "dict[str, Documents]":
    from pipeline.loss.passages import passages

    plain, answered = (records.read_texts(layout.texts(name)) for name in TEXTS)
    asked = Label("harmless", BASELINE)
    said = {row["id"]: row["completion"] or "" for row in read_completions(layout, asked)}
    with shape.as_written(layout.completions(asked)):  # an answer to every prompt
        own = [each for each in records.read_prompts(layout.prompts("harmless_test")) if said[each.id].strip()]
    most = (config.loss.max_tokens, config.loss.max_answer_tokens)
    return passages(model, plain, answered, {each: said[each.id] for each in own[: config.loss.n_completions]}, *most)


def _measure(
    model: "ChatModel", condition: str, sets: "Mapping[str, Documents]", kept: Steps, max_tokens: int, bar: Bar
) -> None:
    from pipeline.loss.model import passage_losses

    for name in (name for name in sets if f"{name} {condition}" not in kept.values):
        bar.step(f"{name}, {condition}")
        kept.keep({f"{name} {condition}": passage_losses(model, sets[name].passages, max_tokens, bar)})
