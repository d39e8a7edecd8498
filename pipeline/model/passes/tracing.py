"""Reading the residual stream with nnsight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nnsight
import torch
from jaxtyping import Float
from nnsight import TransformersModel
from torch import Tensor
from transformers import Cache, DynamicCache

from pipeline.maths.directions import MomentFitter, Moments
from pipeline.model.batching import length_sorted_batches, run_batches
from pipeline.model.chat import chat
from pipeline.model.generation import kvcache
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.forward import Split, prefix_of
from pipeline.model.passes.rowwise import Rows as RowStates
from pipeline.model.passes.ticking import Advance, n_tokens, silent, ticking

Rows = Float[Tensor, "prompt d_model"]
PlaceRows = Float[Tensor, "prompt place d_model"]


def resid_pre(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    n_positions: int,
    layers: Sequence[int] | None = None,
    progress: Advance = silent,
    start: "Shared | None" = None,
) -> Float[Tensor, "prompt position layer d_model"]:
    """`resid_pre` at the last `n_positions` tokens of one padded batch, float32 on the CPU.

    Of every block, or of those in `layers`, which rise. nnsight stops the pass after the last one's
    input: no final norm, no logits. `progress` advances by the tokens run. `start`: what the prompts
    share at their start, which is then not run again.
    """
    chosen = list(range(model.n_layers) if layers is None else layers)
    assert chosen == sorted(set(chosen)), f"layers {chosen} are read as the pass reaches them, once each"
    traced = TransformersModel(model.hf, tokenizer=model.tokenizer)
    n_before, cache = (start.n_tokens, start.rows(model, len(prompts))) if start else (0, None)
    rests = [tokens[n_before:] for tokens in prompts]
    inputs = chat.pad_left(rests, model.pad_id, n_before).inputs(model.hf)
    blocks = traced.get(model.sites.family.blocks)
    run = list(model.sites.blocks)[: chosen[-1]]
    ticks = ticking(run, n_tokens(rests), progress, parts=1)
    with torch.inference_mode(), ticks, _pass(traced, inputs, cache) as tracer:
        slices = []
        for layer in chosen:
            slices.append(blocks[layer].input[:, -n_positions:, :].to("cpu", torch.float32, copy=True))
        stacked = nnsight.save(torch.stack(slices, dim=2))
        tracer.stop()
    return stacked


@dataclass(frozen=True, eq=False)
class Shared:
    """What all prompts begin with: how many tokens, and the model's keys and values there, in one row."""

    n_tokens: int
    cache: DynamicCache

    @classmethod
    def of(
        cls, model: ChatModel, prompts: Sequence[Sequence[int]], n_positions: int, progress: Advance = silent
    ) -> "Shared | None":
        """Run it once; None where prompts share nothing before their last `n_positions` tokens."""
        n = _n_shared(model, prompts, n_positions)
        if not n:
            return None
        with ticking(model.sites.blocks, float(n), progress):
            return cls(n, prefix_of(model, prompts[0][:n], [0], RowStates.none(), None))

    def rows(self, model: ChatModel, n: int) -> Cache:
        """A copy for each of `n` rows."""
        return kvcache.started(model.hf, self.cache, torch.zeros(n, dtype=torch.long))


def _n_shared(model: ChatModel, prompts: Sequence[Sequence[int]], n_positions: int) -> int:
    return max(0, min(len(Split.of(model, prompts).shared), min(map(len, prompts)) - n_positions))


def n_tokens_run(model: ChatModel, prompts: Sequence[Sequence[int]], n_positions: int) -> float:
    """Tokens that `resid_pre_moments` and `resid_pre_at` run: those that all prompts share once, and the rest."""
    return n_tokens(prompts) - (len(prompts) - 1) * _n_shared(model, prompts, n_positions) if prompts else 0.0


def _pass(traced: TransformersModel, inputs: dict[str, Tensor], cache: Cache | None) -> Any:
    if cache is None:
        return traced.trace(inputs, use_cache=False)
    return traced.trace(inputs, past_key_values=cache, use_cache=True)


@torch.inference_mode()
def resid_pre_moments(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    n_positions: int,
    max_tokens: int,
    progress: Advance = silent,
    keep: bool = False,
) -> tuple[Moments, Float[Tensor, "prompt position layer d_model"] | None]:
    """Moments over prompts of `resid_pre` at the last `n_positions` tokens; with `keep`, each prompt's, float32."""
    fitter = MomentFitter()
    kept: dict[int, Tensor] = {}
    lengths, start = [len(tokens) for tokens in prompts], Shared.of(model, prompts, n_positions, progress)

    def run(batch: list[int]) -> Tensor:
        return resid_pre(model, [prompts[row] for row in batch], n_positions, progress=progress, start=start)

    for batch, x in run_batches(length_sorted_batches(lengths, max_tokens), lengths, run):
        fitter.update(x)
        if keep:
            kept.update(zip(batch, x, strict=True))
    return fitter.moments(), torch.stack([kept[row] for row in range(len(prompts))]) if keep else None


@torch.inference_mode()
def resid_pre_at(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    places: Sequence[tuple[int, int]],
    max_tokens: int,
    progress: Advance = silent,
) -> Float[Tensor, "prompt place d_model"]:
    """`resid_pre` of every prompt at the given (position, layer) places alone, float32 on the CPU.

    Batches are those of `resid_pre_moments`, so the rows are those that its means were taken of.
    """
    n_positions = len(model.post_instruction)
    read = sorted({layer for _, layer in places})
    positions, layers = [position for position, _ in places], [read.index(layer) for _, layer in places]
    kept: dict[int, Tensor] = {}
    lengths, start = [len(tokens) for tokens in prompts], Shared.of(model, prompts, n_positions, progress)

    def run(batch: list[int]) -> Tensor:
        x = resid_pre(model, [prompts[row] for row in batch], n_positions, read, progress, start)
        return x[:, positions, layers].clone()

    for batch, x in run_batches(length_sorted_batches(lengths, max_tokens), lengths, run):
        kept.update(zip(batch, x, strict=True))
    return torch.stack([kept[row] for row in range(len(prompts))])
