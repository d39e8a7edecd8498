"""Putting parts of a run without suffix back into the run with it (activation patching; after paper, section 5).

Everything is restored at post-instruction tokens, which are the same in both prompts, counted from the end.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from pipeline.model.batching import length_sorted_batches, run_batches
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.partial_forward import on_input
from pipeline.model.passes.ticking import Advance, exactly, silent, ticking
from pipeline.suffix.model.heads import n_heads, output_site


@dataclass(frozen=True)
class HeadOutputs:
    """What these (layer, head) hand to W_O becomes what they handed to it without the suffix.

    At the instruction's tokens keys and values are the same in both runs, since attention looks back only:
    a head's output differs by where it looks, and by the values at the few tokens after the suffix.
    """

    heads: tuple[tuple[int, int], ...]
    n_positions: int


@dataclass(frozen=True, eq=False)
class Component:
    """x <- x + (c - x . r_hat) r_hat at the input of these blocks, c the component without the suffix."""

    r_hat: Float[Tensor, " d_model"]
    layers: tuple[int, ...]
    n_positions: int


Restoration = HeadOutputs | Component | None


@dataclass(frozen=True, eq=False)
class _Plain:
    """The run without suffix at the post-instruction tokens: prompt x position x width, a tensor per layer."""

    z: list[Tensor]
    resid: list[Tensor]


def restored(
    model: ChatModel,
    plain: Sequence[Sequence[int]],
    suffixed: Sequence[Sequence[int]],
    restorations: Sequence[Restoration],
    measure: Callable[[Float[Tensor, "prompt d_vocab"]], Float[Tensor, " prompt"]],
    max_tokens: int,
    progress: Advance = silent,
) -> Float[Tensor, "restoration prompt"]:
    """`measure` of the next-token logits of every suffixed prompt under every restoration, float64.

    What precedes the post-instruction tokens is no different under a restoration, so it is run once.
    `progress`: see `restored_tokens`.
    """
    assert len(plain) == len(suffixed), "prompts come in pairs"
    lengths = [len(tokens) for tokens in suffixed]
    metrics = torch.zeros(len(restorations), len(plain), dtype=torch.float64)

    def run(batch: list[int]) -> Tensor:
        pair = ([plain[row] for row in batch], [suffixed[row] for row in batch])
        with exactly(restored_tokens(model, *pair, len(restorations)), progress) as advance:
            batches = _batch(model, *pair, restorations, advance)
            return torch.stack([measure(logits).double().cpu() for logits in batches])

    for batch, values in run_batches(length_sorted_batches(lengths, max_tokens), lengths, run):
        metrics[:, batch] = values
    return metrics


def restored_tokens(
    model: ChatModel, plain: Sequence[Sequence[int]], suffixed: Sequence[Sequence[int]], n_restorations: int
) -> float:
    """Tokens that `restored` runs: both prompts once, and the post-instruction tokens under each restoration."""
    tail = len(model.post_instruction)
    return float(sum(map(len, plain)) + sum(len(tokens) + (n_restorations - 1) * tail for tokens in suffixed))


@torch.inference_mode()
def _batch(
    model: ChatModel,
    plain: Sequence[Sequence[int]],
    suffixed: Sequence[Sequence[int]],
    restorations: Sequence[Restoration],
    advance: Advance,
) -> Iterator[Float[Tensor, "prompt d_vocab"]]:
    tail, blocks = len(model.post_instruction), model.sites.blocks
    with ticking(blocks, float(sum(map(len, plain))), advance):
        kept = _record(model, plain, tail)
    padded = chat.pad_left(suffixed, model.pad_id)
    ids, mask, positions = padded.input_ids, padded.attention_mask, padded.position_ids
    head = chat.Padded(ids[:, :-tail], mask[:, :-tail], positions[:, :-tail])
    rest = chat.Padded(ids[:, -tail:], mask, positions[:, -tail:])
    cache = DynamicCache(config=model.hf.config)
    with ticking(blocks, float(sum(map(len, suffixed)) - tail * len(suffixed)), advance):
        model.hf(**head.inputs(model.hf), past_key_values=cache, use_cache=True, logits_to_keep=1)
    for restoration in restorations:
        with _restoring(model, restoration, kept), ticking(blocks, float(tail * len(suffixed)), advance):
            own = copy.deepcopy(cache)
            out = model.hf(**rest.inputs(model.hf), past_key_values=own, use_cache=True, logits_to_keep=1)
        yield out.logits[:, -1].float()


def _record(model: ChatModel, prompts: Sequence[Sequence[int]], tail: int) -> _Plain:
    kept = _Plain([], [])

    def keep(into: list[Tensor]) -> Callable[[Tensor], Tensor]:
        def seen(x: Tensor) -> Tensor:
            into.append(x[:, -tail:].clone())
            return x

        return seen

    with ExitStack() as stack:
        for block in model.sites.blocks:
            w_out = block.get_submodule(output_site(model).w_out)
            for module, into in ((block, kept.resid), (w_out, kept.z)):
                stack.callback(on_input(module, keep(into)).remove)
        model.hf(**chat.pad_left(prompts, model.pad_id).inputs(model.hf), use_cache=False, logits_to_keep=1)
    return kept


@contextmanager
def _restoring(model: ChatModel, restoration: Restoration, kept: _Plain) -> Iterator[None]:
    with ExitStack() as stack:
        match restoration:
            case HeadOutputs(heads, n):
                for layer in sorted({layer for layer, _ in heads}):
                    own = [head for at, head in heads if at == layer]
                    module = model.sites.blocks[layer].get_submodule(output_site(model).w_out)
                    handle = on_input(module, _heads(kept.z[layer], own, n_heads(model), n))
                    stack.callback(handle.remove)
            case Component(r_hat, layers, n):
                for layer in layers:
                    block = model.sites.blocks[layer]
                    stack.callback(on_input(block, _component(kept.resid[layer], r_hat, n)).remove)
            case None:
                pass
        yield


def _heads(plain: Tensor, heads: Sequence[int], n_heads: int, n: int) -> Callable[[Tensor], Tensor]:
    def change(z: Tensor) -> Tensor:
        parted = z.clone().unflatten(-1, (n_heads, -1))
        parted[:, -n:, list(heads)] = plain[:, -n:].unflatten(-1, (n_heads, -1))[:, :, list(heads)]
        return parted.flatten(-2)

    return change


def _component(plain: Tensor, r_hat: Tensor, n: int) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        unit = r_hat.to(x.device, torch.float32)
        missing = (plain[:, -n:].float() - x[:, -n:].float()) @ unit
        restored = x.clone()
        restored[:, -n:] = (x[:, -n:].float() + missing[..., None] * unit).to(x.dtype)
        return restored

    return change
