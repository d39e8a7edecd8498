"""Greedy answers under a list of conditions: what `completions` and `further` do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pipeline.artifacts import files, records, samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.experiment import Condition
from pipeline.model import chat
from pipeline.model.generation import generate
from pipeline.model.loading import ChatModel
from pipeline.progress import progress


def answer(
    config: Config,
    layout: Layout,
    model: ChatModel,
    plan: Sequence[Condition],
    limit: int | None = None,
    systems: Mapping[str, str] | None = None,
) -> None:
    """One file of completions per condition; batches already on disk are not generated again.

    `limit`: at most so many prompts of each set; `systems`: system prompts by the name that conditions have.
    """
    texts = {"": None, **(systems or {})}
    partials = [_generate(config, layout, model, row, limit, texts[row.label.system]) for row in plan]
    for condition, partial in zip(plan, partials, strict=True):
        rows = sorted(partial.rows, key=lambda row: row["row"])
        files.write_jsonl(
            layout.completions(condition.name), [{k: v for k, v in row.items() if k != "row"} for row in rows]
        )
    for partial in partials:
        partial.discard()


def _generate(
    config: Config, layout: Layout, model: ChatModel, condition: Condition, limit: int | None, system: str | None
) -> records.PartialRows:
    label = condition.label
    prompts = records.read_prompts(layout.prompts(label.prompt_set))[:limit]
    pinned = identity(config.model.source)
    recipe = [
        pinned,
        condition.name,
        system,
        samples.intervention_recipe(condition.intervention),
        [asdict(prompt) for prompt in prompts],
    ]
    key = files.content_hash([recipe, asdict(config.model.chat), vars(config.engine), vars(config.generate)])
    partial = records.PartialRows(layout.partial(f"completions-{key}"))
    done = {row["row"] for row in partial.rows}
    tokens = model.encode([prompt.instruction for prompt in prompts], thoughts=True, system=system)
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
                    "prompt_set": label.prompt_set,
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
