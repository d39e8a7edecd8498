"""What long work tells of itself: how far it is, and which step it takes. Nobody hears it unless somebody listens.

`pipeline.entry.bars` listens and shows it. No word that a user sees is made here, since every stage imports this.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

Advance = Callable[[float], None]


class Bar:
    """Work done out of a total. Called with what has just been done, which may be a fraction.

    A negative number takes back what has to be done again. `name`: the step that runs; `done`, `whole`: in units
    of `unit`, where a `whole` of 0 is not known; `start`: what was done before; `began`: seconds of a clock.
    """

    def __init__(self, step: str, total: float, unit: str, done: float):
        self.name, self.unit = step, unit
        self.whole, self.done = float(total), float(done)
        self.start, self.began = self.done, time.monotonic()
        self._show: Callable[[bool], None] = lambda at_once: None

    def watch(self, show: Callable[[bool], None]) -> None:
        """`show(at_once)` is called whenever something has changed."""
        self._show = show

    def __call__(self, n: float) -> None:
        self.done += n
        self._show(False)

    def step(self, name: str) -> None:
        """What runs now, under the same count."""
        if name != self.name:
            self.name = name
            self._show(True)

    def total(self, n: float, done: float | None = None) -> None:
        """The work is of another size; `done`: so much of it was there before, and counts for no speed."""
        self.whole = float(n)
        if done is not None:
            self.done = self.start = float(done)
            self.began = time.monotonic()
        self._show(False)


class View(Protocol):
    """A bar as it is shown."""

    def show(self, at_once: bool) -> None:
        """Something has changed; `at_once`: the step."""

    def close(self) -> None:
        """The work has ended, or failed."""


class Unseen:
    """A bar that nobody sees."""

    def show(self, at_once: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass
class _Listener:
    note: Callable[[str], None] = lambda text: None
    view: Callable[[Bar], View] = lambda bar: Unseen()


_listener = _Listener()


def listen(note: Callable[[str], None], view: Callable[[Bar], View]) -> None:
    """From now on notes and bars of this process are given to these."""
    _listener.note, _listener.view = note, view


def note(text: str) -> None:
    """A step that has no count."""
    _listener.note(text)


@contextmanager
def progress(step: str, total: float, unit: str = "token", done: float = 0) -> Iterator[Bar]:
    """A count of work, of which `done` was there before; call what it yields with the work just done.

    A `total` of 0 is not known yet.
    """
    bar = Bar(step, total, unit, done)
    view = _listener.view(bar)
    bar.watch(view.show)
    try:
        yield bar
    finally:
        view.close()


def byte_progress(description: str, total: int) -> AbstractContextManager[Bar]:
    """A count of bytes."""
    return progress(description, total, unit="B")


def download_bar(name: str, total: int | None, done: int = 0) -> AbstractContextManager[Bar]:
    """A count of a download's bytes, of which `done` are there already."""
    return progress(name, total or 0, unit="B", done=done)
