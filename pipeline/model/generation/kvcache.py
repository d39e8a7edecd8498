"""Key-value caches of a batch that is decoded greedily: allocated once, and rows that have ended leave."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class RoomyLayer(DynamicLayer):
    """Keys and values in buffers with room for all that will come: a step writes its own token and copies no other."""

    keys: Tensor
    values: Tensor

    def __init__(self, parts: Sequence[Any], length: int, room: int):
        """Rows of all `parts`, one after the other, each part's last token at slot `length - 1` of `length + room`."""
        super().__init__()
        self._key_buffer = _joined([part.keys for part in parts], length, room)
        self._value_buffer = _joined([part.values for part in parts], length, room)
        self.dtype, self.device = self._key_buffer.dtype, self._key_buffer.device
        self.is_initialized = True
        self._show(length)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new tokens behind those that are there; everything up to them is returned."""
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        self._key_buffer[:, :, start:stop] = key_states
        self._value_buffer[:, :, start:stop] = value_states
        self._show(stop)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order. In place: only rows that change their number are copied."""
        length = self.get_seq_length()
        indices = indices.to(self.device)
        moved = torch.nonzero(indices != torch.arange(len(indices), device=self.device)).flatten()
        for buffer in (self._key_buffer, self._value_buffer):
            buffer[moved, :, :length] = buffer[indices[moved], :, :length]
        self._key_buffer, self._value_buffer = self._key_buffer[: len(indices)], self._value_buffer[: len(indices)]
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]


def _joined(parts: Sequence[Tensor], length: int, room: int) -> Tensor:
    n_rows = sum(map(len, parts))
    # Zeros: what stands before a shorter part is masked, and a masked NaN would still be NaN.
    buffer = parts[0].new_zeros((n_rows, parts[0].shape[1], length + room, parts[0].shape[3]))
    start = 0
    for part in parts:
        buffer[start : start + len(part), :, length - part.shape[2] : length] = part
        start += len(part)
    return buffer


@dataclass(frozen=True)
class CachePlan:
    """What one model's cache allows.

    `decodable`: its layers grow by tokens and can lose rows, and a step needs nothing but tokens, mask and
    positions. `window`: tokens of the narrowest sliding window, if any.
    """

    decodable: bool
    window: int | None


def plan(hf: Any) -> CachePlan:
    """Read from the model's configuration; recurrent, hybrid and indexed layers are not decodable here."""
    layers = DynamicCache(config=hf.config).layers
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    # A model that overrides this has a step of its own, such as Phi-3's change of rotary factors.
    own, usual = (kind.prepare_inputs_for_generation for kind in (type(hf), GenerationMixin))  # type: ignore[attr-defined]
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    return CachePlan(plain and own is usual, min(windows, default=None))


def started(hf: PreTrainedModel, prefix: Cache | None, rows: Int[Tensor, " row"]) -> Cache:
    """A cache that begins with the given row of the prefix for each row of a batch, or is empty."""
    if prefix is None:
        return DynamicCache(config=hf.config)
    cache = copy.deepcopy(prefix)
    layers: list[Any] = cache.layers
    for layer in layers:
        layer.batch_select_indices(rows.to(layer.device))
    return cache


def joined(parts: Sequence[Cache], room: int) -> Cache:
    """One cache for the rows of all parts, each right-aligned to the longest, with room for `room` tokens more.

    Layers with a sliding window stay as they are, so with any the rows must be in one part.
    """
    length = max(part.get_seq_length() for part in parts)
    layers = []
    for pieces in zip(*(part.layers for part in parts), strict=True):
        if type(pieces[0]) is DynamicLayer:
            layers.append(RoomyLayer(pieces, length, room))
        else:
            [only] = pieces
            layers.append(only)
    return Cache(layers=layers)


def closed_ranks(alive: Sequence[bool]) -> list[int]:
    """Numbers of the rows alive, in an order in which as few as possible move: gaps are filled from the end."""
    n_alive = sum(alive)
    movers = iter([row for row in range(n_alive, len(alive)) if alive[row]])
    return [row if alive[row] else next(movers) for row in range(n_alive)]
