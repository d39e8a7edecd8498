"""Batches that shrink when memory runs out."""

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from pipeline.errors import UserError

T = TypeVar("T")


def length_sorted_batches(lengths: Sequence[int], max_tokens: int, max_rows: int = 10**9) -> list[list[int]]:
    """Row numbers in batches of rising length, each at most `max_tokens` tokens once padded (or one row)."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    batches: list[list[int]] = []
    for row in order:
        fits = batches and (len(batches[-1]) + 1) * lengths[row] <= max_tokens and len(batches[-1]) < max_rows
        if fits:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def run_batches(batches: Sequence[list[int]], run: Callable[[list[int]], T]) -> Iterator[tuple[list[int], T]]:
    """(rows, run(rows)) of every batch; one that memory does not hold is halved, and so are later ones.

    Every row is run once, in order. Raises UserError when a single row does not fit.
    """
    todo, most = deque(batches), max(map(len, batches), default=1)
    while todo:
        batch = todo.popleft()
        if len(batch) > most:
            todo.extendleft([batch[most:], batch[:most]])
            continue
        result = _unless_out_of_memory(run, batch)
        if result is None:
            most = len(batch) // 2
            todo.appendleft(batch)
        else:
            yield batch, result[0]


def _unless_out_of_memory(run: Callable[[list[int]], T], batch: list[int]) -> tuple[T] | None:
    try:
        return (run(batch),)
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
            raise
        if len(batch) == 1:
            raise UserError(
                f"a single prompt does not fit in memory ({str(error).splitlines()[0]}): let less of the model on the "
                "device with memory.limits, or use a smaller engine.dtype"
            ) from None
    # Only here are the failed pass's tensors, which the exception held, free to go.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
