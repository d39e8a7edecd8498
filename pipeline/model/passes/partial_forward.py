"""Passes that leave out what no answer depends on: padding, all but the last token at the end, blocks already run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from pipeline.model.sites import Sites


@contextmanager
def only_needed(sites: Sites, real: Bool[Tensor, "row token"]) -> Iterator[None]:
    """MLPs see real tokens alone, and that of the last block the last token of each row alone.

    An MLP works token by token, so what is left is unchanged; what is left out is read by nothing
    when only the last position's logits are. `real` is False where a row is padded.
    """
    n_rows, n_tokens = real.shape
    kept = real.flatten().nonzero()[:, 0]
    last = torch.arange(1, n_rows + 1, device=real.device) * n_tokens - 1
    with ExitStack() as stack:
        for block, writer in zip(sites.blocks, sites.mlp, strict=True):
            index, mlp = last if block is sites.blocks[-1] else kept, mlp_of(sites, block)
            # Interventions act where the MLP writes and must find the batch in rows there.
            inside = any(module is writer for module in mlp.modules() if module is not mlp)
            if len(index) < real.numel() and not inside:
                for handle in _gathered(mlp, (n_rows, n_tokens), index):
                    stack.callback(handle.remove)
        yield


@contextmanager
def skipping(blocks: Iterable[nn.Module], as_tuple: bool) -> Iterator[None]:
    """The blocks hand on what they are given; `as_tuple`: blocks of this model return a tuple."""
    blocks = list(blocks)
    kept = [block.__dict__.get("forward") for block in blocks]

    def hand_on(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
        return (hidden_states, None) if as_tuple else hidden_states

    try:
        for block in blocks:
            block.forward = hand_on
        yield
    finally:
        for block, forward in zip(blocks, kept, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


@contextmanager
def starting_from(block: nn.Module, x: Tensor) -> Iterator[None]:
    """The block's input is x, whatever comes before; hooks that change its input act on x."""
    handle = on_input(block, lambda given: x.to(given.device), prepend=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def inputs_of(blocks: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Gather the input of each block, one after the other as passes run, on the blocks' devices."""
    inputs: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        inputs.append(x)
        return x

    with ExitStack() as stack:
        for block in blocks:
            stack.callback(on_input(block, keep).remove)
        yield inputs


def on_input(block: nn.Module, change: Callable[[Tensor], Tensor], prepend: bool = False) -> Any:
    """Hook a block's hidden states, given by place or by name; returns the handle."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    return block.register_forward_pre_hook(hook, with_kwargs=True, prepend=prepend)


def mlp_of(sites: Sites, block: nn.Module) -> nn.Module:
    """The module of a block that holds the MLP's matrices, whole."""
    return block.get_submodule(sites.family.mlp.parameters[0].name.split(".")[0])


def _gathered(module: nn.Module, shape: tuple[int, int], index: Int[Tensor, " kept"]) -> list[Any]:
    """Hooks that give a module some tokens of a batch alone, and put its answers back where they belong."""

    def gather(value: Any) -> Any:
        if isinstance(value, Tensor) and value.shape[:2] == shape:
            return value.flatten(0, 1)[index.to(value.device)].unsqueeze(0)
        return value

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return tuple(map(gather, args)), {key: gather(value) for key, value in kwargs.items()}

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        x = output[0] if isinstance(output, tuple) else output
        whole = x.new_zeros(shape[0] * shape[1], x.shape[-1])
        whole[index.to(x.device)] = x.flatten(0, -2)
        back = whole.view(*shape, -1)
        return (back, *output[1:]) if isinstance(output, tuple) else back

    # First of the hooks on the output: interventions see the batch as it is.
    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, prepend=True),
    ]
