"""The paper's selection sweep written from its description (section 2.3), with nothing shared: what ours is held to.

Three full passes per candidate in batches of 32 padded prompts: ablation on harmful, addition on harmless,
ablation on harmless; hooks on every block, and logits at every position of which the last is read. Where the
refusal metric is read, the published code widens all of them to float64 first; `widen` says whether this does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.maths.directions import Direction
from pipeline.maths.metrics import kl_divergence, refusal_metric
from pipeline.maths.selection import CandidateScores
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel

BATCH = 32


@torch.inference_mode()
def full_logits(
    model: ChatModel, prompts: Sequence[Sequence[int]], widen: bool = False
) -> Float[Tensor, "prompt d_vocab"]:
    """Last-position logits by way of those of every position; `widen`: all of them to float64."""
    rows = []
    for first in range(0, len(prompts), BATCH):
        padded = chat.pad_left(prompts[first : first + BATCH], model.pad_id)
        logits = model.hf(**padded.inputs(model.hf), use_cache=False).logits
        if widen:
            logits = logits.double()
        rows.append(logits[:, -1].float().cpu())
    return torch.cat(rows)


def score(
    model: ChatModel,
    direction: Direction,
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    refusal_tokens: Tensor,
    baseline: Float[Tensor, "prompt d_vocab"],
    widen: bool = True,
) -> CandidateScores:
    """The scores of one candidate; `baseline`: the unchanged model's logits on the harmless prompts."""
    with _ablated(model, direction):
        bypass = refusal_metric(full_logits(model, harmful, widen), refusal_tokens)
    with _added(model, direction):
        induce = refusal_metric(full_logits(model, harmless, widen), refusal_tokens)
    with _ablated(model, direction):
        kl = kl_divergence(baseline, full_logits(model, harmless))
    bypass, induce, kl = (float(values.mean()) for values in (bypass, induce, kl))
    return CandidateScores(direction.position, direction.layer, bypass, induce, kl)


@contextmanager
def _ablated(model: ChatModel, direction: Direction) -> Iterator[None]:
    """x - (x . r_hat) r_hat at the input of every block and the output of its attention and MLP."""
    unit = direction.r_hat.to(model.device, model.hf.dtype)

    def ablate(x: Tensor) -> Tensor:
        return x - (x @ unit).unsqueeze(-1) * unit

    def before(_module: Any, args: tuple[Any, ...]) -> Any:
        return (ablate(args[0]), *args[1:])

    def after(_module: Any, _args: Any, output: Any) -> Any:
        return (ablate(output[0]), *output[1:]) if isinstance(output, tuple) else ablate(output)

    handles = [block.register_forward_pre_hook(before) for block in model.sites.blocks]
    handles += [module.register_forward_hook(after) for module in (*model.sites.attention, *model.sites.mlp)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _added(model: ChatModel, direction: Direction) -> Iterator[None]:
    """x + r at the input of the direction's block, every position."""
    r = direction.vector.to(model.device, model.hf.dtype)
    block = model.sites.blocks[direction.layer]
    handle = block.register_forward_pre_hook(lambda _module, args: (args[0] + r, *args[1:]))
    try:
        yield
    finally:
        handle.remove()
