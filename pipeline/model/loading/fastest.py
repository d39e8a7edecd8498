"""Which dtype this machine multiplies matrices fastest in: a CPU with AMX bfloat16, one without float32."""

import time
from pathlib import Path

import torch

from pipeline.model.loading.foreign import config_of
from pipeline.model.loading.loading import DTYPES, device_of

CHOICES = ("bfloat16", "float32")
TOKENS = 128  # rows of the product: few, so that it ends between two moments that other work on the machine takes
SECONDS = 0.6  # of products, of every dtype in turn


def speeds(folder: Path, device: str) -> dict[str, float]:
    """FLOP/s of a block's widest product of the model in `folder`, by dtype, on the device that would run it."""
    config = config_of(folder).get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return product_speeds(config.hidden_size, int(inner), device_of(device))


@torch.inference_mode()
def product_speeds(width: int, inner: int, device: str) -> dict[str, float]:
    """FLOP/s of (TOKENS x width) @ (width x inner) by dtype: of the fastest product of each.

    They take turns, so that what else runs on the machine slows all of them alike.
    """
    factors = {
        name: [torch.ones(rows, width, dtype=DTYPES[name], device=device) for rows in (TOKENS, inner)]
        for name in CHOICES
    }
    best = {name: _timed(*pair) for name, pair in factors.items()}
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        best = {name: min(best[name], _timed(*pair)) for name, pair in factors.items()}
    return {name: 2 * TOKENS * width * inner / seconds for name, seconds in best.items()}


def _timed(x: torch.Tensor, w: torch.Tensor) -> float:
    start = time.perf_counter()
    y = torch.nn.functional.linear(x, w)
    if y.is_cuda:
        torch.cuda.synchronize(y.device)
    return time.perf_counter() - start
