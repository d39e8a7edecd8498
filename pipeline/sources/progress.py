"""One progress bar for every kind of download: size, speed and time left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def download_bar(name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar in bytes on standard error; the yielded function takes the bytes just received.

    Where standard error is no terminal a line every ten seconds is enough.
    """
    interval = 0.2 if sys.stderr.isatty() else 10
    with tqdm(
        total=total, initial=done, desc=name, unit="B", unit_scale=True, mininterval=interval, dynamic_ncols=True
    ) as bar:

        def advance(n: int) -> None:
            bar.update(n)

        yield advance
