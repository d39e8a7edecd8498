"""Progress as a user sees it: what runs, how far it is, how long still. A bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.display import plain
from pipeline.progress import Bar, listen

if TYPE_CHECKING:
    from rich.console import Console

TERMINAL_S, LINE_S = 0.1, 2.0  # least time between two looks at a count
STEP = 200  # characters of what is running: a bar is drawn again and again
SLOW = {  # libraries whose loading takes a part of a second or more
    "datasets",
    "lm_eval",
    "matplotlib",
    "nnsight",
    "pandas",
    "scipy",
    "sklearn",
    "statsmodels",
    "torch",
    "transformers",
}


@dataclass
class _Stage:
    """What runs, and what follows it; empty outside a stage."""

    name: str = ""
    following: str = ""

    @property
    def prefix(self) -> str:
        return f"{self.name}: " if self.name else ""

    @property
    def suffix(self) -> str:
        return plain(f", then {self.following}", STEP) if self.following else ""


_stage = _Stage()


def announce(stage: str, following: str) -> None:
    """Every later bar and note names the stage that runs, such as `7/23 scores`; bars say what comes next."""
    _stage.name, _stage.following = stage, following


def note(text: str) -> None:
    """One printable line on standard error about a step that has no count."""
    print(plain(f"{_stage.prefix}{text}"), file=sys.stderr, flush=True)


class Named:
    """An import finder that finds nothing, and says what is being loaded: each slow library, and on a slow machine
    the module that has been reached after another second."""

    def __init__(self, say: Callable[[str], None], patience_s: float = 1.0):
        self._say, self._waiting, self._patience = say, set(SLOW), patience_s
        self._said = time.monotonic()

    def find_spec(self, name: str, *_: Any) -> None:
        """Called for each module that is not loaded yet."""
        if name in self._waiting or time.monotonic() - self._said >= self._patience:
            self._waiting.discard(name)
            self._said = time.monotonic()
            self._say(f"loading {name}")


def title(bar: Bar) -> str:
    """Stage and step, on one printable line."""
    return plain(_stage.prefix + bar.name, STEP)


def extent(bar: Bar) -> tuple[float, float | None]:
    """Done and total as they are shown: never below nothing or past the total; None where it is not known."""
    done = max(bar.done, 0.0)
    return (min(done, bar.whole), bar.whole) if bar.whole > 0 else (done, None)


def count(bar: Bar) -> str:
    """Such as `12,345/80,000 tokens`."""
    done, total = extent(bar)
    if bar.unit == "B":
        return "/".join(_bytes(value) for value in (done, total) if value is not None)
    numbers = [_number(bar, value) for value in (done, total) if value is not None]
    return f"{'/'.join(numbers)} {bar.unit}s"


def _number(bar: Bar, value: float) -> str:
    # Of tokens there are many: parts of one say nothing. Of anything slower they are what moves.
    whole = abs(value - round(value)) < 1e-3
    return f"{round(value):,}" if whole else f"{int(value):,}" if bar.unit == "token" else f"{value:,.1f}"


def rest(bar: Bar) -> str:
    """Time left at the bar's speed so far, and the speed of bytes; empty before there is one."""
    done, total = extent(bar)
    seconds, gained = time.monotonic() - bar.began, done - bar.start
    if gained <= 0 or seconds < 0.5:
        return ""
    speed = f"{_bytes(gained / seconds)}/s" if bar.unit == "B" else ""
    left = "" if total is None else f"{clock((total - done) * seconds / gained)} left"
    return ", ".join(part for part in (speed, left) if part)


def clock(seconds: float) -> str:
    """Such as `1:12`, or `2:01:12`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bytes(value: float) -> str:
    from rich.filesize import decimal

    return decimal(int(value))


class _Lines:
    """A line at once for a new step, later ones when the count has changed, and one at the end."""

    def __init__(self, bar: Bar):
        self._bar, self._at, self._last = bar, 0.0, ""
        self.show(True)

    def show(self, at_once: bool) -> None:
        if at_once or time.monotonic() - self._at >= LINE_S:
            self._print(rest(self._bar))

    def _print(self, time_of_it: str) -> None:
        text = f"{title(self._bar)} {count(self._bar)}"
        if text != self._last:
            self._last, self._at = text, time.monotonic()
            print(text + (f", {time_of_it}" if time_of_it else "") + _stage.suffix, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._print(f"in {clock(time.monotonic() - self._bar.began)}")


class _Terminal:
    """One line that is drawn again and again, by a thread of its own between two counts."""

    def __init__(self, bar: Bar):
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = ["{task.description}", "{task.fields[count]}", "{task.fields[rest]}"]
        texts = [TextColumn(text, markup=False) for text in columns]
        self._bar, self._at = bar, time.monotonic()
        self._rich = Progress(
            texts[0], BarColumn(bar_width=24), texts[1], TimeElapsedColumn(), texts[2], console=_console()
        )
        fields = self._fields()
        self._task = self._rich.add_task(fields.pop("description"), **fields)
        self._rich.start()

    def _fields(self) -> dict[str, Any]:
        done, total = extent(self._bar)
        left = rest(self._bar) + _stage.suffix
        return {
            "description": title(self._bar),
            "completed": done,
            "total": total,
            "count": count(self._bar),
            "rest": left.removeprefix(", "),
        }

    def show(self, at_once: bool) -> None:
        if at_once or time.monotonic() - self._at >= TERMINAL_S:
            self._at = time.monotonic()
            self._rich.update(self._task, **self._fields())

    def close(self) -> None:
        self.show(True)
        self._rich.stop()


@cache
def _console() -> "Console":
    """One for all bars, so that one inside another is drawn below it."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False)


def show() -> None:
    """What long work of this process tells of itself is shown from now on."""
    listen(note, lambda bar: _Terminal(bar) if sys.stderr.isatty() else _Lines(bar))
