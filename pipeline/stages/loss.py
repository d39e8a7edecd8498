"""loss: cross-entropy of harmless text under each intervention and on the export, and what changed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.artifacts import records, samples
from pipeline.artifacts.layout import TEXTS, Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.rows import PartialRows
from pipeline.entry.model import open_model
from pipeline.loss.maths import EXPORT, MEASURED, agreement, summary
from pipeline.maths.labels import BASELINE, Label, Treatment
from pipeline.progress import Bar, progress
from pipeline.results.judgements import read_completions

if TYPE_CHECKING:
    from pipeline.loss.model import Documents
    from pipeline.maths.interventions import Intervention
    from pipeline.model.loading.loading import ChatModel


def loss(config: Config, layout: Layout) -> None:
    """Loss per token of each text set, and its change, with bootstrap intervals over documents.

    What is measured is kept per set and condition: an interrupted run goes on there.
    """
    if not config.loss.n_completions:
        files.write_json(layout.loss, {})
        return
    from pipeline.loss.model import n_tokens
    from pipeline.model.passes.intervene import intervene

    pinned = identity(config.model.source)
    conditions = _conditions(layout, pinned, config.generate.coefficient)
    model = open_model(config)
    sets = _sets(config, layout, model)
    tokens = {name: [[row.context, row.targets] for row in rows.passages] for name, rows in sets.items()}
    recipe = {name: samples.intervention_recipe(condition) for name, condition in conditions.items()}
    key = files.content_hash([pinned, vars(config.engine), tokens, recipe])
    partial = PartialRows(layout.partial(f"loss-{key}"))
    max_tokens, sizes = config.engine.max_batch_tokens, {name: n_tokens(rows.passages) for name, rows in sets.items()}
    total = (len(conditions) + 1) * sum(sizes.values())
    with progress("loss", total, done=sum(sizes[row["set"]] for row in partial.rows)) as bar:
        for name, intervention in conditions.items():
            with intervene(model, intervention):
                _measure(model, name, sets, partial, max_tokens, bar)
        reason = _edit(layout, model, pinned)  # the last condition: nothing undoes it
        if not reason:
            _measure(model, EXPORT, sets, partial, max_tokens, bar)
        else:
            bar.total(total - sum(sizes.values()))
    result = {}
    for name, rows in sets.items():
        losses = {row["condition"]: row["losses"] for row in partial.rows if row["set"] == name}
        counts = [passage.n_targets for passage in rows.passages]
        result[name] = {
            **summary(losses, counts, config.seed),
            "sources": rows.sources,
            "export": {"reason": reason} if reason else asdict(agreement(losses, counts)),
        }
    files.write_json(layout.loss, result)
    partial.discard()


def _conditions(layout: Layout, pinned: str, coefficient: float) -> "dict[str, Intervention]":
    """The unchanged model, and the chosen direction and its controls: `effect` and `effect.control`."""
    sources = samples.read_sources(layout, pinned, coefficient, estimators=False)
    pairs = [(source, effect) for source in sources for effect in MEASURED]
    named = {str(Treatment(effect, source)): sources[source][effect] for source, effect in pairs}
    return {"baseline": None, **named}


def _sets(config: Config, layout: Layout, model: "ChatModel") -> "dict[str, Documents]":
    from pipeline.loss.model import Documents, answers, documents

    texts, answered = (records.read_texts(layout.texts(name)) for name in TEXTS)
    prompts = records.read_prompts(layout.prompts("harmless_test"))
    rows = {row["id"]: row["completion"] for row in read_completions(layout, Label("harmless", BASELINE))}
    own = [prompt for prompt in prompts if (rows[prompt.id] or "").strip()][: config.loss.n_completions]
    pairs = {
        "instruction_answers": [(row.instruction, row.text) for row in answered],
        "own_completions": [(prompt.instruction, rows[prompt.id]) for prompt in own],
    }
    passages = {name: answers(model, rows, config.loss.max_answer_tokens) for name, rows in pairs.items()}
    passages["plain_text"] = documents(model, [row.text for row in texts], config.loss.max_tokens)
    origins = {"plain_text": texts, "instruction_answers": answered, "own_completions": own}
    return {
        name: Documents(rows, Counter(row.source for row in origins[name])) for name, rows in passages.items() if rows
    }


def _measure(
    model: "ChatModel", condition: str, sets: "Mapping[str, Documents]", partial: PartialRows, max_tokens: int, bar: Bar
) -> None:
    from pipeline.loss.model import passage_losses

    done = {row["set"] for row in partial.rows if row["condition"] == condition}
    for name in (name for name in sets if name not in done):
        bar.step(f"{name}, {condition}")
        losses = passage_losses(model, sets[name].passages, max_tokens, bar)
        partial.append([{"set": name, "condition": condition, "losses": losses}])


def _edit(layout: Layout, model: "ChatModel", pinned: str) -> str:
    """Orthogonalise the loaded model; why not, when there is nothing to edit with or that can be edited."""
    from pipeline.export.model import surgery

    direction = records.read_direction(layout.direction, layout.selection, pinned)
    if direction is None:
        return records.read_selection(layout.selection)["reason"]
    if not surgery.is_editable(model):
        return "the loaded weights are on disk or packed, so they are not edited here"
    surgery.untie(model)
    surgery.orthogonalize_weights(model, direction)
    return ""
