"""Progress of long work: how far, how fast, how long still."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(description: str, total: int, unit: str = "prompt", done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; call the yielded function with the number of items just finished."""
    with tqdm(total=total, desc=description, unit=unit, initial=done, mininterval=1, dynamic_ncols=True) as bar:

        def advance(n: int) -> None:
            bar.update(n)

        yield advance
