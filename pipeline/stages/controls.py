"""controls: directions that should do nothing, or less, scored like the chosen one."""

from typing import TYPE_CHECKING

from pipeline.artifacts import class_means, directions, prompt_scores, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.maths.selection import Place
from pipeline.progress import progress
from pipeline.stages.shared.train import train_rows
from pipeline.stages.shared.validation import ADDED, validation, work

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction
    from pipeline.model.loading.loading import ChatModel


def controls(config: Config, layout: Layout) -> None:
    """`resid_pre` of every train prompt at the chosen place, the controls, and their val scores."""
    pinned = identity(config.model.source)
    chosen = records.read_direction(layout.direction, layout.selection, pinned)
    if chosen is None:
        _write(layout, {}, {}, None, pinned)
        files.write_json(layout.control_scores, {})
        return
    from pipeline.maths.controls import control_directions
    from pipeline.maths.directions import difference_in_means

    model = open_model(config)
    place = (chosen.position, chosen.layer)
    rows = {kind: tensor[:, 0] for kind, tensor in train_rows(config, layout, model, [place]).items()}
    means = class_means.read_means(layout.activations, pinned)
    class_means.require_width(layout.direction, chosen.vector, means)
    directions = control_directions(
        chosen,
        difference_in_means(means["harmful_mean"], means["harmless_mean"]),
        means["harmful_mean"],
        (rows["harmful"], rows["harmless"]),
        n_random=config.controls.random,
        n_shuffled=config.controls.shuffled,
        layer_share=config.controls.layer_share,
        seed=config.seed,
    )
    _write(layout, rows, directions, place, pinned)
    files.write_json(layout.control_scores, _scores(config, layout, model, directions))


def _write(layout: Layout, rows: dict, found: dict, place: Place | None, pinned: str) -> None:
    directions.write_rows(layout.rows, rows, pinned, place)
    directions.write_directions(layout.controls, found, pinned)


def _scores(
    config: Config, layout: Layout, model: "ChatModel", found: "dict[str, Direction]"
) -> dict[str, dict[str, list[float | None]]]:
    from pipeline.model.passes import scoring

    tokens, rows = work(layout, model), {}
    total = tokens.unchanged + sum(tokens.directions([direction]) for direction in found.values())
    with progress("unchanged model", total) as bar:
        prompts = validation(config, layout, model, bar)
        for name, direction in found.items():
            bar.step(f"control {name}")
            scored = scoring.score_direction(model, direction, prompts, ADDED, config.engine.max_batch_tokens, bar)
            rows[name] = prompt_scores.require_finite(name, scored).record
    return rows
