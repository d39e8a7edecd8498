"""The loaded model's weights with the chosen direction taken out: the last condition, since nothing undoes it."""

from typing import TYPE_CHECKING

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout

if TYPE_CHECKING:
    from pipeline.model.loading.loading import ChatModel


def edit(layout: Layout, model: "ChatModel", pinned: str, refused: str) -> str:
    """Orthogonalise the weights, in place; why not, where there is no direction, or where they are `refused`.

    Raises UserError for weights, a direction or a family file that do not fit.
    """
    from pipeline.export.model.surgery import orthogonalize_weights, untie

    direction = records.read_direction(layout.direction, layout.selection, pinned)
    if direction is None:
        return records.read_selection(layout.selection)["reason"]
    if not refused:
        untie(model)
        orthogonalize_weights(model, direction)
    return refused
