"""Times of things done in turn, so that a machine whose speed drifts treats them alike."""

import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError

RATIOS = ("of the time", "times", "of the ceiling", "of all", "nats")  # units; `+- 0.1` is of a power


@dataclass(frozen=True)
class Row:
    """A line of the table. `bound` is what `value` is to be at most (or at least, with `at_least`)."""

    section: str
    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False

    @property
    def is_ratio(self) -> bool:
        """It says something beyond this machine: no time, memory or rate."""
        return self.unit in RATIOS or self.unit.startswith("+-")

    @property
    def far_off(self) -> bool:
        """More than twice past its bound: more than a noisy machine explains."""
        if self.bound is None:
            return False
        return self.value < self.bound / 2 if self.at_least else self.value > self.bound * 2

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def in_turn(tasks: Mapping[str, Callable[[], Any]], repeats: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each task in each round, A B C A B C ...; one round before is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for counted in [False] * warm_up + [True] * repeats:
        for name, task in tasks.items():
            _wait()
            start = time.perf_counter()
            task()
            _wait()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median(values: list[float]) -> float:
    """The middle of the repeats."""
    return statistics.median(values)


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios round by round: a slow round slows both."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def in_process(module: str, *arguments: str) -> str:
    """The last line that a module prints, run in a process of its own. Raises UserError with its last line of error."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"{module} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stdout.splitlines()[-1]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    """The processor as it calls itself, and how many threads compute."""
    told = Path("/proc/cpuinfo")
    names = re.findall(r"(?m)^model name\s*: (.+)$", told.read_text(encoding="utf-8")) if told.exists() else []
    return {"processor": (names or [platform.machine()])[0], "threads": torch.get_num_threads()}
