"""export: the model with orthogonalised weights, and how close it is to live ablation."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import records, resume
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import load_folder, model_folder
from pipeline.export import card, recipe
from pipeline.progress import byte_progress, progress

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction
    from pipeline.model.loading.loading import ChatModel

QUANTIZED = (
    "engine.quantize is for measuring only: the direction belongs to rounded weights, which cannot be edited; "
    'export with engine.quantize="", from the full-precision weights that model.source names'
)


def export(config: Config, layout: Layout) -> None:
    """A folder that plain `from_pretrained` loads, or its proof; without a direction, only the reason why not."""
    pinned = identity(config.model.source)
    direction = records.read_direction(layout.direction, layout.selection, pinned)
    if direction is None or config.engine.quantize:
        reason = QUANTIZED if direction else records.read_selection(layout.selection)["reason"]
        files.write_json(layout.equivalence, {"exported": False, "reason": reason})
        return
    partial = layout.partial_export(resume.key(pinned, direction.vector, config.model.family))
    _export(config, layout, direction, partial)
    if config.export.keep == "proof":
        recipe.write_recipe(partial, pinned, direction, asdict(config.model.family))
        recipe.keep_proof(partial)
    files.move_folder(partial, layout.export)


def _export(config: Config, layout: Layout, direction: "Direction", folder: Path) -> None:
    from pipeline.export.model import proof
    from pipeline.export.model.equivalence import compare, compare_tokens

    source = model_folder(config)
    coverage = proof.export(source, folder, config.model.family, direction, byte_progress).coverage
    original = load_folder(config, source, config.export.dtype)
    exported = load_folder(config, folder, config.export.dtype)
    prompts, n_tokens = _prompts(config, layout, original), config.export.n_tokens
    with progress("export against live ablation", compare_tokens(original, prompts, n_tokens)) as bar:
        equivalence = compare(original, exported, prompts, direction, n_tokens, config.engine.max_batch_tokens, bar)
    with proof.discarded(folder):
        proof.require_equal(equivalence, config.model.family.exact, config.export.dtype)
    result = {
        "exported": True,
        "dtype": config.export.dtype,
        "exact": config.model.family.exact,
        **asdict(equivalence),
        **{key: coverage[key] for key in ("n_writers", "n_edited", "untied")},
    }
    files.write_json(folder / layout.coverage.name, dict(coverage))
    files.write_json(folder / layout.equivalence.name, result)
    measured = card.measured(records.read_selection(layout.selection), result)
    facts = card.facts(config.model, identity(config.model.source), direction, coverage, measured)
    card.write(folder / "README.md", facts)


def _prompts(config: Config, layout: Layout, model: "ChatModel") -> list[list[int]]:
    """Harmful and harmless evaluation prompts in turn."""
    sets = [records.read_prompts(layout.prompts(f"{kind}_test")) for kind in ("harmful", "harmless")]
    mixed = [prompt.instruction for pair in zip(*sets, strict=False) for prompt in pair]
    return model.encode(mixed[: config.export.n_prompts])
