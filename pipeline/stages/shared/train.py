"""`resid_pre` of the train prompts, as every stage that fits a direction to single prompts needs it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.maths.selection import Place
from pipeline.progress import progress

if TYPE_CHECKING:
    from pipeline.model.loading.loading import ChatModel
    from pipeline.model.passes import tracing

CLASSES = ("harmful", "harmless")


def train_rows(
    config: Config, layout: Layout, model: "ChatModel", places: Sequence[Place]
) -> "dict[str, tracing.PlaceRows]":
    """Of every kept train prompt of both classes, at the given places."""
    from pipeline.model.passes import tracing

    train = {kind: model.encode(records.kept_instructions(layout, f"{kind}_train")) for kind in CLASSES}
    n_positions, rows = len(model.post_instruction), {}
    with progress("resid_pre", sum(tracing.n_tokens_run(model, asked, n_positions) for asked in train.values())) as bar:
        for kind, asked in train.items():
            bar.step(f"resid_pre, {kind}")
            rows[kind] = tracing.resid_pre_at(model, asked, places, config.engine.max_batch_tokens, bar)
    return rows
