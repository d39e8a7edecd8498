"""Batches that shrink when memory runs out."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from pipeline.errors import UserError, first_line

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


def run_batches(
    batches: Sequence[list[int]], lengths: Sequence[int], run: Callable[[list[int]], T]
) -> Iterator[tuple[list[int], T]]:
    """(rows, run(rows)) of every batch; one that memory does not hold is halved, and so are later ones.

    Every row is in one result, in the order given. `lengths`: tokens of each row. Raises UserError when
    a single row does not fit.
    """
    todo, most = deque(batches), max(map(len, batches), default=1)
    while todo:
        batch = todo.popleft()
        if len(batch) > most:
            todo.extendleft([batch[most:], batch[:most]])
            continue
        result = _unless_out_of_memory(run, batch, lengths)
        if result is None:
            most = len(batch) // 2
            todo.appendleft(batch)
        else:
            yield batch, result[0]


def _unless_out_of_memory(run: Callable[[list[int]], T], batch: list[int], lengths: Sequence[int]) -> tuple[T] | None:
    try:
        return (run(batch),)
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
            raise
        if len(batch) == 1:
            raise UserError(
                f"one prompt of {lengths[batch[0]]} tokens does not fit in memory ({first_line(error)}): lower "
                "memory.limits, which leaves more for it, or use a smaller engine.dtype"
            ) from None
    # Only here are the failed pass's tensors, which the exception held, free to go.
    clear_device_cache(garbage_collection=True)
    return None
