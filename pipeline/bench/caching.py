"""Activation caching against a bare pass that stops at the last cached layer: time side by side, memory apart."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from pipeline.artifacts.layout import Layout
from pipeline.bench.material import Material, compose_now, material, peak_bytes
from pipeline.bench.timing import Row, in_process, in_turn, median, median_ratio
from pipeline.config.params import read_params
from pipeline.model.batching import length_sorted_batches
from pipeline.model.chat import chat
from pipeline.model.passes import tracing

SECTION = "activation caching"
KINDS = ("bare", "cached")


class _StopHereError(Exception):
    """The last cached layer is reached."""


def rows(material: Material, repeats: int, memory: bool) -> Iterator[Row]:
    """Seconds of both, their ratio, and with `memory` the ratio of peak memory, each in a process of its own."""
    seconds = in_turn({"cached": lambda: cached(material), "bare": lambda: bare(material)}, repeats)
    for name in ("cached", "bare"):
        yield Row(SECTION, f"{name}, {len(material.prompts)} prompts", median(seconds[name]), "s")
    yield Row(SECTION, "cached / bare", median_ratio(seconds["cached"], seconds["bare"]), "times", 1.15)
    if memory:
        peaks = {kind: _peak(material, kind) for kind in KINDS}
        yield Row(SECTION, "peak memory, cached", peaks["cached"] / 2**20, "MiB")
        yield Row(SECTION, "peak memory, cached / bare", peaks["cached"] / peaks["bare"], "times", 1.1)


def cached(m: Material) -> None:
    """What the activations stage does: moments of `resid_pre` at every layer and template position."""
    tracing.resid_pre_moments(m.model, m.prompts, len(m.model.post_instruction), m.max_tokens)


@torch.inference_mode()
def bare(m: Material) -> None:
    """The same batches as far as the last block's input, nothing kept."""

    def stop(*_: Any) -> None:
        raise _StopHereError

    handle = m.model.sites.blocks[-1].register_forward_pre_hook(stop)
    try:
        for batch in length_sorted_batches(list(map(len, m.prompts)), m.max_tokens):
            padded = chat.pad_left([m.prompts[row] for row in batch], m.model.pad_id)
            with suppress(_StopHereError):
                m.model.hf(**padded.inputs(m.model.hf), use_cache=False)
    finally:
        handle.remove()


def _peak(m: Material, kind: str) -> float:
    dtype = str(m.model.hf.dtype).removeprefix("torch.")
    return float(in_process("pipeline.bench.caching", m.layout.model, kind, dtype))


def main() -> None:
    """Bytes at the peak of a process that loads the model and does one kind of pass: `MODEL KIND DTYPE`."""
    name, kind = sys.argv[1:3]
    m = material(compose_now(name), Layout(name, read_params().label), sys.argv[3])
    {"bare": bare, "cached": cached}[kind](m)
    print(peak_bytes(m.model))


if __name__ == "__main__":
    main()
