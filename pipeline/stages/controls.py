"""controls: directions that should do nothing, or less, scored beside the chosen one on test prompts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.artifacts import class_means, control_scores, directions, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.artifacts.resume import unfinished
from pipeline.config.schema import Config
from pipeline.entry.model import open_model
from pipeline.maths.held_out import DIRECTION
from pipeline.progress import progress
from pipeline.stages.shared.test_scores import test_validation, test_work
from pipeline.stages.shared.train import train_rows
from pipeline.stages.shared.validation import ADDED

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction
    from pipeline.model.loading.loading import ChatModel


def controls(config: Config, layout: Layout) -> None:
    """`resid_pre` of every train prompt at the chosen place, the controls that answer, and what all of them do."""
    pinned = identity(config.model.source)
    chosen = records.read_direction(layout.direction, layout.selection, pinned)
    if chosen is None:
        directions.write_rows(layout.rows, {}, pinned, None)
        directions.write_directions(layout.controls, {}, pinned)
        control_scores.write(layout.control_scores, {}, {})
        return
    from pipeline.maths.controls import answered, control_directions, described
    from pipeline.maths.directions import difference_in_means

    model, settings = open_model(config), config.controls
    place = (chosen.position, chosen.layer)
    rows = {kind: tensor[:, 0] for kind, tensor in train_rows(config, layout, model, [place]).items()}
    both = (rows["harmful"], rows["harmless"])
    means = class_means.read_means(layout.activations, pinned)
    class_means.require_width(layout.direction, chosen.vector, means)
    r, scale = difference_in_means(means["harmful_mean"], means["harmless_mean"]), means["harmful_mean"]
    found = control_directions(chosen, r, scale, both, settings.counts, settings.layer_share, config.seed)
    directions.write_rows(layout.rows, rows, pinned, place)
    directions.write_directions(layout.controls, answered(found, settings.answered), pinned)
    _score(config, layout, model, {DIRECTION: chosen, **found}, described(chosen, found, both))


def _score(
    config: Config, layout: Layout, model: "ChatModel", scored: "Mapping[str, Direction]", facts: Mapping
) -> None:
    """What each does on the test prompts; batches that an interrupted run scored are not scored again."""
    from pipeline.model.passes import held_out

    work, most = test_work(layout, model), config.engine.max_batch_tokens
    groups = held_out.groups(scored, work, most)
    inputs = [layout.refusal_ids, *(layout.prompts(f"{kind}_test") for kind in ("harmful", "harmless"))]
    kept = unfinished(layout.partial, "controls", identity(config.model.source), config.engine, inputs, scored)
    done = [group for group in groups if group.keys() <= kept.values.keys()]
    total = work.unchanged + sum(held_out.tokens(group, work) for group in groups)
    with progress("unchanged model", total, done=sum(held_out.tokens(group, work) for group in done)) as bar:
        prompts = test_validation(config, layout, model, bar)
        bar.step("direction and controls x test prompts")
        for group in (group for group in groups if group not in done):
            scores = held_out.scores(model, prompts, group, ADDED, most, bar)
            control_scores.require_finite(scores)
            kept.keep(scores)
    unchanged = prompts.harmful_metric.tolist(), prompts.harmless_metric.tolist()
    control_scores.write(layout.control_scores, facts, {name: kept.values[name] for name in scored}, unchanged)
    kept.discard()
