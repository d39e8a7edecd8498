"""completions: greedy answers of the evaluation prompts under every intervention."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.artifacts import files, records, samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.experiment import Condition, conditions
from pipeline.maths.interventions import AffineEdit
from pipeline.model import chat
from pipeline.model.generation import generate
from pipeline.model.loading import ChatModel
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model


def completions(config: Config, layout: Layout) -> None:
    """One file of completions per condition; batches already on disk are not generated again."""
    pinned = identity(config.model.source)
    plan = conditions(samples.read_sources(layout, pinned, config.generate.coefficient))
    model = open_model(config)
    partials = [_generate(config, layout, model, condition, pinned) for condition in plan]
    for condition, partial in zip(plan, partials, strict=True):
        rows = sorted(partial.rows, key=lambda row: row["row"])
        files.write_jsonl(
            layout.completions(condition.name), [{k: v for k, v in row.items() if k != "row"} for row in rows]
        )
    for partial in partials:
        partial.discard()


def _generate(
    config: Config, layout: Layout, model: ChatModel, condition: Condition, pinned: str
) -> records.PartialRows:
    prompts = records.read_prompts(layout.prompts(condition.label.prompt_set))
    recipe = [pinned, condition.name, _intervention(condition), [asdict(prompt) for prompt in prompts]]
    key = files.content_hash([recipe, asdict(config.model.chat), vars(config.engine), vars(config.generate)])
    partial = records.PartialRows(layout.partial(f"completions-{key}"))
    done = {row["row"] for row in partial.rows}
    tokens = model.encode([prompt.instruction for prompt in prompts], thoughts=True)
    with progress(condition.name, len(prompts), done=len(done)) as advance:
        for batch in generate(
            model,
            tokens,
            condition.intervention,
            config.generate.max_new_tokens,
            config.generate.batch_size,
            done=done,
            max_tokens=config.engine.max_batch_tokens,
        ):
            partial.append(
                {
                    "row": item.row,
                    "id": prompts[item.row].id,
                    "prompt_set": condition.label.prompt_set,
                    "completion": _text(model, item.tokens),
                    "prefixes": _prefixes(config, model, item.tokens),
                    "n_tokens": len(item.tokens),
                    "finished": item.finished,
                }
                for item in batch
            )
            advance(len(batch))
    return partial


def _text(model: ChatModel, tokens: Sequence[int]) -> str | None:
    """The answer in generated tokens; None while a model that thinks has not begun it."""
    return chat.answer(chat.decode(model.tokenizer, tokens, True), model.format)


def _prefixes(config: Config, model: ChatModel, tokens: Sequence[int]) -> dict[str, int | None]:
    """Characters of the answer that stand after each of generate.lengths tokens."""
    lengths = [length for length in config.generate.lengths if length < config.generate.max_new_tokens]
    texts = {length: _text(model, tokens[:length]) for length in lengths}
    return {str(length): None if text is None else len(text) for length, text in texts.items()}


def _intervention(condition: Condition) -> Any:
    match condition.intervention:
        case None:
            return None
        case AffineEdit(direction, readout, target):
            return ["AffineEdit", direction.layer, direction.vector.tolist(), readout.tolist(), target]
        case intervention:
            direction = intervention.direction
            return [type(intervention).__name__, direction.layer, direction.vector.tolist()]


if __name__ == "__main__":
    run_stage(completions)
