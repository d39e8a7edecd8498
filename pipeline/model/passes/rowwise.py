"""Several interventions in one batch: each row under its own."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pipeline.maths.interventions import ActivationAddition, DirectionalAblation, Intervention, ablate, add, batch_kinds
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.intervene import intervene
from pipeline.model.passes.partial_forward import on_input
from pipeline.model.sites import output


@dataclass
class Rows:
    """Which intervention, by number, each row of the batch in hand is under."""

    current: Int[Tensor, " row"]

    @classmethod
    def none(cls) -> "Rows":
        """Before the first batch."""
        return cls(torch.zeros(0, dtype=torch.long))


@contextmanager
def intervene_rows(model: ChatModel, interventions: Sequence[Intervention], rows: Rows) -> Iterator[None]:
    """Run the model with row i under `interventions[rows.current[i]]`, computed as `intervene` would.

    Several must all be directional ablations, or all activation additions with one coefficient; None, the
    unchanged model, goes with either.
    """
    if len(interventions) == 1:
        with intervene(model, interventions[0]):
            yield
        return
    with ExitStack() as stack:
        for handle in _hooks(model, interventions, rows):
            stack.callback(handle.remove)
        yield


def _hooks(model: ChatModel, interventions: Sequence[Intervention], rows: Rows) -> list[Any]:
    changes: list[Any] = [each for each in interventions if each is not None]
    if not changes:
        return []
    assert len(batch_kinds(interventions)) == 1, "interventions of several kinds, or coefficients, in one batch"
    if isinstance(changes[0], DirectionalAblation):
        zero = torch.zeros_like(changes[0].direction.r_hat)  # x - 0 is x to the bit
        units = torch.stack([each.direction.r_hat if each else zero for each in interventions])
        wide, embeddings = units.to(model.device, torch.float32), len(model.sites.embeddings)
        return [_ablated(writer, wide, rows, index >= embeddings) for index, writer in enumerate(model.sites.writers)]
    layers = sorted({each.direction.layer for each in changes})
    return [_added(model, layer, interventions, changes[0], rows) for layer in layers]


def _ablated(writer: nn.Module, units: Tensor, rows: Rows, in_block: bool) -> Any:
    def hook(_module: nn.Module, _args: Any, value: Any) -> Any:
        x, n_rows = output(value), len(rows.current)
        flat = in_block and x.ndim == 2  # some experts hand out tokens without the batch's axis
        # A position embedding writes once for all rows.
        by_row = x.reshape(n_rows, -1, x.shape[-1]) if flat else x.expand(n_rows, *x.shape[1:])
        changed = torch.vmap(ablate)(by_row, units[rows.current].to(x.device))
        changed = changed.reshape(x.shape) if flat else changed
        return (changed, *value[1:]) if isinstance(value, tuple) else changed

    return writer.register_forward_hook(hook)


def _added(model: ChatModel, layer: int, additions: Sequence[Any], like: ActivationAddition, rows: Rows) -> Any:
    """The additions of one layer; rows without one, or whose addition is at another, are left as they are."""
    device, coefficient, zero = model.device, like.coefficient, torch.zeros_like(like.direction.vector)
    vectors = torch.stack([each.direction.vector if each else zero for each in additions]).to(device)
    here = torch.tensor([each is not None and each.direction.layer == layer for each in additions], device=device)

    def change(x: Tensor) -> Tensor:
        added = torch.vmap(lambda row, r: add(row, r, coefficient))(x, vectors[rows.current].to(x.device))
        return torch.where(here[rows.current].to(x.device)[:, None, None], added, x)

    return on_input(model.sites.blocks[layer], change)
