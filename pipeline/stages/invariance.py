"""invariance: how many greedy completions change with batch size, padding and dtype."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.judges.registry import JUDGES
from pipeline.maths.invariance import changes
from pipeline.progress import Bar, progress

if TYPE_CHECKING:
    from pipeline.model.loading.loading import ChatModel

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
    variants = {
        "reference": (batch_size, 0),
        "repeated": (batch_size, 0),
        **{f"batch size {size}": (size, 0) for size in settings.batch_sizes},
        f"{settings.padding} more padding": (batch_size, settings.padding),
    }
    answers = _answers(config, model, instructions, variants)
    other = "bfloat16" if config.engine.dtype == "float32" else "float32"
    answers |= _answers(config, open_model(config, dtype=other), instructions, {other: (batch_size, 0)})
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
    config: Config, model: "ChatModel", instructions: Sequence[str], variants: dict[str, tuple[int, int]]
) -> dict[str, list[tuple[int, ...]]]:
    """Answers by variant, which is a batch size and tokens of padding."""
    from pipeline.model.generation.generation import n_tokens

    tokens, most = model.encode(instructions), config.invariance.n_tokens
    total = sum(n_tokens(model, tokens, most, size, padding=padding) for size, padding in variants.values())
    with progress("answers", total) as bar:
        return {name: _variant(model, tokens, most, name, *variant, bar) for name, variant in variants.items()}


def _variant(
    model: "ChatModel", tokens: list[list[int]], most: int, name: str, batch_size: int, padding: int, bar: Bar
) -> list[tuple[int, ...]]:
    from pipeline.model.generation.generation import generate

    bar.step(f"answers, {name}")
    batches = generate(model, tokens, None, most, batch_size, padding=padding, progress=bar)
    found = {item.row: item.tokens for batch in batches for item in batch}
    return [found[row] for row in range(len(tokens))]


def _text(model: "ChatModel", tokens: Sequence[int]) -> str:
    from pipeline.model.chat import chat

    return chat.decode(model.tokenizer, tokens, True)
