"""invariance: how many greedy completions change with batch size, padding and dtype."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.artifacts import files, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.judges.registry import JUDGES
from pipeline.maths.invariance import changes
from pipeline.model import chat
from pipeline.model.generation import generate
from pipeline.model.loading import ChatModel
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model

READ = ("data", "engine", "generate", "invariance", "model", "seed", "sizes")


def invariance(config: Config, layout: Layout) -> None:
    """The unchanged model's answers to the same harmful prompts, generated in several ways."""
    prompts = records.read_prompts(layout.prompts("harmful_test"))[: config.invariance.n_prompts]
    instructions = [prompt.instruction for prompt in prompts]
    settings, batch_size = config.invariance, config.generate.batch_size
    if not prompts:
        files.write_json(
            layout.invariance, {"provenance": provenance(config, layout, identity(config.model.source), READ)}
        )
        return
    model = open_model(config)
    answers = {
        "reference": _answers(config, model, instructions, batch_size),
        "repeated": _answers(config, model, instructions, batch_size),
        **{f"batch size {size}": _answers(config, model, instructions, size) for size in settings.batch_sizes},
        f"{settings.padding} more padding": _answers(config, model, instructions, batch_size, settings.padding),
    }
    for dtype in settings.dtypes:
        wider = open_model(config, dtype=dtype)
        answers[dtype] = _answers(config, wider, instructions, batch_size)
    judge = JUDGES[settings.judge]
    refused = {
        name: [
            judge(instruction, _text(model, row)).refused for instruction, row in zip(instructions, rows, strict=True)
        ]
        for name, rows in answers.items()
    }
    record: dict[str, Any] = {
        "reference": {"batch_size": batch_size, "dtype": config.engine.dtype},
        "judge": settings.judge,
        "n_tokens": settings.n_tokens,
        "variants": {
            name: asdict(changes(answers["reference"], rows, refused["reference"], refused[name]))
            for name, rows in answers.items()
            if name != "reference"
        },
        "provenance": provenance(config, layout, identity(config.model.source), READ),
    }
    files.write_json(layout.invariance, record)


def _answers(
    config: Config, model: ChatModel, instructions: Sequence[str], batch_size: int, padding: int = 0
) -> list[tuple[int, ...]]:
    tokens = model.encode(instructions)
    found = {}
    with progress("answers", len(tokens)) as advance:
        for batch in generate(model, tokens, None, config.invariance.n_tokens, batch_size, padding=padding):
            found |= {item.row: item.tokens for item in batch}
            advance(len(batch))
    return [found[row] for row in range(len(tokens))]


def _text(model: ChatModel, tokens: Sequence[int]) -> str:
    return chat.decode(model.tokenizer, tokens, True)


if __name__ == "__main__":
    run_stage(invariance)
