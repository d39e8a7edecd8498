"""One progress bar for every kind of download: size, speed and time left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

Advance = Callable[[int], None]


@contextmanager
def download_bar(name: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """A bar on standard error, or a line every tenth where that is no terminal.

    The yielded function takes the number of bytes just received; `done` are there already.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(name, total, done)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda n: bar.advance(task, n)


def _lines(name: str, total: int | None, done: int) -> Advance:
    if not total:
        return lambda n: None
    tenths = done * 10 // total

    def advance(n: int) -> None:
        nonlocal done, tenths
        done += n
        if done * 10 // total > tenths:
            tenths = done * 10 // total
            print(f"{name}: {10 * tenths} % of {decimal(total)}", file=sys.stderr, flush=True)

    return advance
