"""Applying an intervention to a live model: one context manager, prefill and every decode step."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.maths.interventions import (
    ActivationAddition,
    AffineEdit,
    DirectionalAblation,
    Intervention,
    ablate,
    add,
    edit,
)
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.partial_forward import on_input


@contextmanager
def intervene(model: ChatModel, intervention: Intervention) -> Iterator[None]:
    """Run the model under the intervention inside the block; nothing of it remains afterwards."""
    with ExitStack() as stack:
        for handle in _hooks(model, intervention):
            stack.callback(handle.remove)
        yield


def _hooks(model: ChatModel, intervention: Intervention) -> list[Any]:
    match intervention:
        case None:
            return []
        case DirectionalAblation(direction):
            r_hat = direction.r_hat.to(model.device, torch.float32)
            hook = _on_output(lambda x: ablate(x, r_hat.to(x.device)))
            return [writer.register_forward_hook(hook) for writer in model.sites.writers]
        case ActivationAddition(direction, coefficient):
            r = direction.vector.to(model.device)
            block = model.sites.blocks[direction.layer]
            return [on_input(block, lambda x: add(x, r.to(x.device), coefficient))]
        case AffineEdit(direction, readout, target):
            u, v = (vector.to(model.device, torch.float32) for vector in (direction.vector, readout))
            block = model.sites.blocks[direction.layer]
            return [on_input(block, lambda x: edit(x, u.to(x.device), v.to(x.device), target))]


def _on_output(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    return hook
