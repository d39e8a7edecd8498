"""completions: greedy answers of the evaluation prompts under every intervention."""

from dataclasses import asdict
from typing import Any

from pipeline.artifacts import files, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.experiment import Condition, conditions
from pipeline.model import chat
from pipeline.model.generation import generate
from pipeline.model.loading import ChatModel
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model


def completions(config: Config, layout: Layout) -> None:
    """One file of completions per condition; batches already on disk are not generated again."""
    pinned = identity(config.model.source)
    direction = records.read_direction(layout.direction, layout.selection, pinned)
    plan = conditions(direction, config.generate.coefficient, config.seed)
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
    prompts = records.read_prompts(layout.prompts(condition.prompt_set))
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
        ):
            partial.append(
                {
                    "row": item.row,
                    "id": prompts[item.row].id,
                    "prompt_set": condition.prompt_set,
                    "completion": chat.answer(chat.decode(model.tokenizer, item.tokens, True), model.format),
                    "n_tokens": len(item.tokens),
                    "finished": item.finished,
                }
                for item in batch
            )
            advance(len(batch))
    return partial


def _intervention(condition: Condition) -> Any:
    intervention = condition.intervention
    if intervention is None:
        return None
    direction = intervention.direction
    return [type(intervention).__name__, direction.layer, direction.vector.tolist()]


if __name__ == "__main__":
    run_stage(completions)
