"""loss: cross-entropy of harmless text under each intervention, and what changed."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.artifacts import files, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths import statistics
from pipeline.maths.experiment import interventions
from pipeline.model import chat
from pipeline.model.intervene import intervene
from pipeline.model.loading import ChatModel
from pipeline.model.loss import Passage, passage_losses
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model

NAMES = ("baseline", "ablation", "addition", "random_ablation", "random_addition")


def loss(config: Config, layout: Layout) -> None:
    """Mean loss per token of each text set, and its change with a bootstrap interval over texts."""
    direction = records.read_direction(layout.direction, layout.selection, identity(config.model.source))
    available = interventions(direction, config.generate.coefficient, config.seed)
    model = open_model(config)
    result = {}
    for name, passages in _passages(config, layout, model).items():
        losses: dict[str, list[float]] = {}
        for condition in (known for known in NAMES if known in available):
            with (
                intervene(model, available[condition]),
                progress(f"loss, {name}, {condition}", len(passages)) as advance,
            ):
                losses[condition] = passage_losses(model, passages, advance)
        result[name] = _summary(losses, sum(passage.n_targets for passage in passages), config.seed)
    files.write_json(layout.loss, result)


def _passages(config: Config, layout: Layout, model: ChatModel) -> dict[str, list[Passage]]:
    prompts = records.read_prompts(layout.prompts("harmless_test"))
    rows = {row["id"]: row["completion"] for row in files.read_jsonl(layout.completions("harmless_baseline"))}
    answered = [prompt for prompt in prompts if (rows[prompt.id] or "").strip()][: config.loss.n_completions]
    contexts = model.encode([prompt.instruction for prompt in answered])
    answers = chat.encode_plain(model.tokenizer, [rows[prompt.id] for prompt in answered])
    texts = [prompt.instruction for prompt in records.read_prompts(layout.prompts("harmless_train"))]
    instructions = chat.encode_plain(model.tokenizer, texts[: config.loss.n_texts])
    limit = config.loss.max_tokens
    return {
        "own_completions": [
            Passage(tuple(context), tuple(answer[:limit])) for context, answer in zip(contexts, answers, strict=True)
        ],
        "instructions": [Passage(tuple(text[:1]), tuple(text[1:limit])) for text in instructions if len(text) > 1],
    }


def _summary(losses: dict[str, list[float]], n_tokens: int, seed: int) -> dict[str, Any]:
    baseline: Sequence[float] = losses["baseline"]
    return {
        "n_tokens": n_tokens,
        "loss": {name: asdict(statistics.mean(rows, seed)) for name, rows in losses.items()},
        "change": {
            name: asdict(statistics.mean([b - a for a, b in zip(baseline, rows, strict=True)], seed))
            for name, rows in losses.items()
            if name != "baseline"
        },
    }


if __name__ == "__main__":
    run_stage(loss)
