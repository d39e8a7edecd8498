"""export: the model with orthogonalised weights, and how close it is to live ablation."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import records
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
    made_by = [pinned, direction.vector.tolist(), asdict(config.model.family)]
    partial = layout.partial_export(files.content_hash(made_by))
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
    card.write(folder / "README.md", _facts(config, layout, direction, result))


def _prompts(config: Config, layout: Layout, model: "ChatModel") -> list[list[int]]:
    """Harmful and harmless evaluation prompts in turn."""
    sets = [records.read_prompts(layout.prompts(f"{kind}_test")) for kind in ("harmful", "harmless")]
    mixed = [prompt.instruction for pair in zip(*sets, strict=False) for prompt in pair]
    return model.encode(mixed[: config.export.n_prompts])


def _facts(config: Config, layout: Layout, direction: "Direction", result: dict[str, Any]) -> card.Facts:
    selection = records.read_selection(layout.selection)
    return card.Facts(
        title=config.model.title,
        base_model=config.model.base_model,
        licence=config.model.licence,
        pinned=identity(config.model.source),
        direction=direction,
        exact=result["exact"],
        n_edited=result["n_edited"],
        n_writers=result["n_writers"],
        measured=card.Measured(
            metric_before=selection["baselines"]["harmful"],
            metric_after=selection["chosen"]["bypass"],
            kl=selection["chosen"]["kl"],
            n_val=selection["n_val"]["harmful"],
            equivalence=result,
        ),
    )
