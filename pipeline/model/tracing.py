"""Reading the residual stream with nnsight."""

from collections.abc import Callable, Sequence

import nnsight
import torch
from jaxtyping import Float
from nnsight import TransformersModel
from torch import Tensor

from pipeline.maths.directions import MomentFitter, Moments
from pipeline.model import chat
from pipeline.model.batching import length_sorted_batches, run_batches
from pipeline.model.loading import ChatModel

Rows = Float[Tensor, "prompt d_model"]
PlaceRows = Float[Tensor, "prompt place d_model"]


def resid_pre(
    model: ChatModel, prompts: Sequence[Sequence[int]], n_positions: int, layers: Sequence[int] | None = None
) -> Float[Tensor, "prompt position layer d_model"]:
    """`resid_pre` at the last `n_positions` tokens of one padded batch, float32 on the CPU.

    Of every block, or of those in `layers`, which rise. nnsight stops the pass after the last one's
    input: no final norm, no logits.
    """
    chosen = list(range(model.n_layers) if layers is None else layers)
    assert chosen == sorted(set(chosen)), f"layers {chosen} are read as the pass reaches them, once each"
    traced = TransformersModel(model.hf, tokenizer=model.tokenizer)
    inputs = chat.pad_left(prompts, model.pad_id).inputs(model.hf)
    blocks = traced.get(model.sites.family.blocks)
    with torch.inference_mode(), traced.trace(inputs, use_cache=False) as tracer:
        slices = []
        for layer in chosen:
            slices.append(blocks[layer].input[:, -n_positions:, :].to("cpu", torch.float32, copy=True))
        stacked = nnsight.save(torch.stack(slices, dim=2))
        tracer.stop()
    return stacked


def resid_pre_moments(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    n_positions: int,
    max_tokens: int,
    progress: Callable[[int], None] = lambda rows: None,
    keep: bool = False,
) -> tuple[Moments, Float[Tensor, "prompt position layer d_model"] | None]:
    """Moments over prompts of `resid_pre` at the last `n_positions` tokens; with `keep`, each prompt's, float32."""
    fitter = MomentFitter()
    kept: dict[int, Tensor] = {}
    lengths = [len(tokens) for tokens in prompts]

    def run(batch: list[int]) -> Tensor:
        return resid_pre(model, [prompts[row] for row in batch], n_positions)

    for batch, x in run_batches(length_sorted_batches(lengths, max_tokens), lengths, run):
        fitter.update(x)
        if keep:
            kept.update(zip(batch, x, strict=True))
        progress(len(batch))
    return fitter.moments(), torch.stack([kept[row] for row in range(len(prompts))]) if keep else None


def resid_pre_at(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    places: Sequence[tuple[int, int]],
    max_tokens: int,
    progress: Callable[[int], None] = lambda rows: None,
) -> Float[Tensor, "prompt place d_model"]:
    """`resid_pre` of every prompt at the given (position, layer) places alone, float32 on the CPU.

    Batches are those of `resid_pre_moments`, so the rows are those that its means were taken of.
    """
    n_positions = len(model.post_instruction)
    positions, layers = [position for position, _ in places], [layer for _, layer in places]
    kept: dict[int, Tensor] = {}
    lengths = [len(tokens) for tokens in prompts]

    def run(batch: list[int]) -> Tensor:
        return resid_pre(model, [prompts[row] for row in batch], n_positions)[:, positions, layers].clone()

    for batch, x in run_batches(length_sorted_batches(lengths, max_tokens), lengths, run):
        kept.update(zip(batch, x, strict=True))
        progress(len(batch))
    return torch.stack([kept[row] for row in range(len(prompts))])
