"""loss: cross-entropy of harmless text under each intervention and on the export, and what changed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline.artifacts import files, records, samples
from pipeline.artifacts.layout import TEXTS, Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.interventions import Intervention
from pipeline.maths.losses import EFFECTS, EXPORT, agreement, summary
from pipeline.model import surgery
from pipeline.model.intervene import intervene
from pipeline.model.loading import ChatModel
from pipeline.model.loss import Passage, answers, documents, passage_losses
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model


@dataclass(frozen=True)
class Documents:
    """Passages of one kind, and how many come from each source."""

    passages: Sequence[Passage]
    sources: Mapping[str, int]


def loss(config: Config, layout: Layout) -> None:
    """Loss per token of each text set, and its change, with bootstrap intervals over documents.

    What is measured is kept per set and condition: an interrupted run goes on there.
    """
    pinned = identity(config.model.source)
    conditions = _conditions(layout, pinned, config.generate.coefficient)
    model = open_model(config)
    sets = _sets(config, layout, model)
    tokens = {name: [[row.context, row.targets] for row in rows.passages] for name, rows in sets.items()}
    recipe = {name: samples.intervention_recipe(condition) for name, condition in conditions.items()}
    key = files.content_hash([pinned, vars(config.engine), tokens, recipe])
    partial = records.PartialRows(layout.partial(f"loss-{key}"))
    for name, intervention in conditions.items():
        with intervene(model, intervention):
            _measure(model, name, sets, partial, config.engine.max_batch_tokens)
    reason = _edit(layout, model, pinned)  # the last condition: nothing undoes it
    if not reason:
        _measure(model, EXPORT, sets, partial, config.engine.max_batch_tokens)
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


def _conditions(layout: Layout, pinned: str, coefficient: float) -> dict[str, Intervention]:
    """The unchanged model, and the chosen direction and its controls: `effect` and `effect.control`."""
    sources = samples.read_sources(layout, pinned, coefficient, estimators=False)
    pairs = [(source, effect) for source in sources for effect in EFFECTS]
    named = {effect + (f".{source}" if source else ""): sources[source][effect] for source, effect in pairs}
    return {"baseline": None, **named}


def _sets(config: Config, layout: Layout, model: ChatModel) -> dict[str, Documents]:
    texts, answered = (records.read_texts(layout.texts(name)) for name in TEXTS)
    prompts = records.read_prompts(layout.prompts("harmless_test"))
    rows = {row["id"]: row["completion"] for row in files.read_jsonl(layout.completions("harmless_baseline"))}
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
    model: ChatModel, condition: str, sets: Mapping[str, Documents], partial: records.PartialRows, max_tokens: int
) -> None:
    done = {row["set"] for row in partial.rows if row["condition"] == condition}
    for name in (name for name in sets if name not in done):
        passages = sets[name].passages
        with progress(f"loss, {name}, {condition}", len(passages), unit="text") as advance:
            losses = passage_losses(model, passages, max_tokens, advance)
        partial.append([{"set": name, "condition": condition, "losses": losses}])


def _edit(layout: Layout, model: ChatModel, pinned: str) -> str:
    """Orthogonalise the loaded model; why not, when there is nothing to edit with or that can be edited."""
    direction = records.read_direction(layout.direction, layout.selection, pinned)
    if direction is None:
        return files.read_json(layout.selection)["reason"]
    if not surgery.is_editable(model):
        return "the loaded weights are on disk or packed, so they are not edited here"
    surgery.untie(model)
    surgery.orthogonalize_weights(model, direction)
    return ""


if __name__ == "__main__":
    run_stage(loss)
