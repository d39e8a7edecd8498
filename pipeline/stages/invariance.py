"""invariance: how many greedy completions change with batch size, padding and dtype."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.judges.registry import JUDGES
from pipeline.maths.invariance import changes

if TYPE_CHECKING:
    from pipeline.model.generation.variants import Tokens, Variant

READ = ("data", "engine", "generate", "invariance", "model", "seed", "sizes")


def invariance(config: Config, layout: Layout) -> None:
    """The unchanged model's answers to the same harmful prompts, generated in several ways."""
    prompts = records.read_prompts(layout.prompts("harmful_test"))[: config.invariance.n_prompts]
    made_from = {"provenance": provenance(config, layout, identity(config.model.source), READ)}
    if not prompts:
        files.write_json(layout.invariance, made_from)
        return
    settings, batch_size = config.invariance, config.generate.batch_size
    variants = {
        "reference": (batch_size, 0),
        "repeated": (batch_size, 0),
        **{f"batch size {size}": (size, 0) for size in settings.batch_sizes},
        f"{settings.padding} more padding": (batch_size, settings.padding),
    }
    other = "bfloat16" if config.engine.dtype == "float32" else "float32"
    instructions = [prompt.instruction for prompt in prompts]
    tokens, refused = _answers(config, instructions, None, variants)
    other_tokens, other_refused = _answers(config, instructions, other, {other: (batch_size, 0)})
    tokens, refused = tokens | other_tokens, refused | other_refused
    compared = {
        name: asdict(changes(tokens["reference"], rows, refused["reference"], refused[name]))
        for name, rows in tokens.items()
        if name != "reference"
    }
    record = {
        "reference": {"batch_size": batch_size, "dtype": config.engine.dtype},
        "judge": settings.judge,
        "n_tokens": settings.n_tokens,
        "variants": compared,
    }
    files.write_json(layout.invariance, record | made_from)


def _answers(
    config: Config, instructions: list[str], dtype: str | None, variants: "dict[str, Variant]"
) -> "tuple[dict[str, list[Tokens]], dict[str, list[bool | None]]]":
    """Tokens of every answer, and whether the judge calls it a refusal, by variant."""
    from pipeline.model.chat import chat
    from pipeline.model.generation.variants import answers

    model, judge = open_model(config, dtype=dtype), JUDGES[config.invariance.judge]
    made = answers(model, model.encode(instructions), config.invariance.n_tokens, variants)
    refused = {
        name: [
            judge(instruction, chat.decode(model.tokenizer, row, True)).refused
            for instruction, row in zip(instructions, rows, strict=True)
        ]
        for name, rows in made.items()
    }
    return made, refused
