"""Progress of long work: how far, how fast, how long still."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tqdm import tqdm


@contextmanager
def progress(description: str, total: int, unit: str = "prompt", done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; call the yielded function with the number of items just finished."""
    size = {"unit": unit, "unit_scale": unit == "B", "unit_divisor": 1024}
    with tqdm(total=total, desc=description, initial=done, mininterval=1, dynamic_ncols=True, **size) as bar:

        def advance(n: int) -> None:
            bar.update(n)

        yield advance


def byte_progress(description: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A bar that counts bytes."""
    return progress(description, total, unit="B")
