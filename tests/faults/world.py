"""A workspace with a finished run of the tiny model, in which a stage can be run again under a fault."""

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.graph import RUN, Project

ITEM = f"--model tiny --run {RUN}"
OUTS = ("outs", "metrics")
PAGE = 4096
LONGEST = 120  # seconds of one command
SIDE = ("outputs/bench", "outputs/code.json", "outputs/locks", "outputs/partial", "outputs/written")  # no results


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, negative for a signal, None when it hung; and what it said."""

    status: int | None
    said: str

    @property
    def line(self) -> str:
        """The error that a user sees: empty unless it is one line."""
        lines = [line for line in self.said.splitlines() if line.startswith("error: ")]
        return lines[0] if self.status == 1 and len(lines) == 1 and "Traceback" not in self.said else ""

    def __str__(self) -> str:
        if self.status is None:
            return f"hung for {LONGEST} s"
        if self.status < 0:
            return f"died of signal {-self.status}"
        if "Traceback" in self.said:
            return "traceback: " + self.said.strip().splitlines()[-1]
        return self.line.removeprefix("error: ") or f"exit status {self.status}"


class World:
    """A copy of the project on a file system of its own, with every out as an undisturbed run made it."""

    def __init__(self, finished: Path, folder: Path):
        self.folder, self.finished = folder, finished
        self.stages: dict[str, Any] = yaml.safe_load((finished / "dvc.yaml").read_text())["stages"]
        self.whole = results(finished)
        self.reset()

    def reset(self) -> None:
        """Everything as the undisturbed run left it."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.finished, self.folder, dirs_exist_ok=True, symlinks=True)

    def outs(self, stage: str) -> list[Path]:
        """What the stage writes."""
        listed = [out for key in OUTS for out in self.stages[stage].get(key, ())]
        return [self.folder / self._named(out if isinstance(out, str) else next(iter(out))) for out in listed]

    def inputs(self, stage: str) -> list[Path]:
        """Files that the stage reads and that another stage wrote, or people did."""
        entry = self.stages[stage]
        named = [*entry.get("deps", ()), *(path for each in entry["params"] if isinstance(each, dict) for path in each)]
        paths = [self.folder / self._named(path) for path in named if path != "outputs/code.json"]
        return sorted(
            file for path in paths for file in (path, *path.rglob("*")) if file.is_file() and file.stat().st_size
        )

    def seconds(self, stage: str) -> float:
        """What the stage took as a whole process in the undisturbed run; about a second where that is not noted."""
        noted = self.finished / f"outputs/bench/tiny-{RUN}-stages.jsonl"
        rows = [json.loads(line) for line in noted.read_text().splitlines()]
        return next((row["seconds"] for row in rows if row["stage"] == stage), 1.0)

    def size(self, stage: str) -> int:
        """Bytes of what the stage writes, as the undisturbed run left it, whole pages of files counted."""
        names = [str(out.relative_to(self.folder)) for out in self.outs(stage)]
        found = [data for name, data in self.whole.items() if any(name == n or name.startswith(f"{n}/") for n in names)]
        return sum(PAGE * -(-len(data) // PAGE) for data in found)

    def clear(self, stage: str) -> None:
        """As DVC does before it runs a stage: its outs are removed."""
        for out in self.outs(stage):
            shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)

    def start(
        self, stage: str, surroundings: Mapping[str, str | None] | None = None, before: Callable[[], None] | None = None
    ) -> subprocess.Popen:
        """The stage's command, in other surroundings, after `before` in the child."""
        command = self.stages[stage]["cmd"]
        words = shlex.split(self._named(command if isinstance(command, str) else command[0]))
        changed = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": None}
        environment = {**os.environ, **changed, **(surroundings or {})}
        return subprocess.Popen(
            [sys.executable, *words[1:]],
            cwd=self.folder,
            env={key: value for key, value in environment.items() if value is not None},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=before,
        )

    def run(self, stage: str, **how: Any) -> Ended:
        """The stage's command to its end."""
        return ended(self.start(stage, **how))

    def differing(self) -> list[str]:
        """Results that are not those of the undisturbed run."""
        now = results(self.folder)
        return sorted(name for name in now.keys() | self.whole.keys() if now.get(name) != self.whole.get(name))

    def _named(self, text: str) -> str:
        for written, meant in (("${item.model}", "tiny"), ("${item.run}", RUN), ("${item}", ITEM)):
            text = text.replace(written, meant)
        return text


def ended(process: subprocess.Popen) -> Ended:
    """Wait for a process; one that hangs is killed."""
    try:
        said, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return Ended(None, said.decode(errors="replace"))
    return Ended(process.returncode, said.decode(errors="replace"))


def results(folder: Path) -> dict[str, bytes]:
    """Every result by name: what stages cost, locks and unfinished rows are none, but what lies half written is."""
    files = {str(path.relative_to(folder)): path for path in (folder / "outputs").rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(SIDE)}


def finished_run(folder: Path, overrides: str = "") -> Path:
    """A project in which every stage has ended once, undisturbed."""
    project = Project(folder)
    project.params(overrides=overrides)
    project.module("pipeline", "repro")
    return folder


def address_space(size: int) -> Callable[[], None]:
    """Limits a child's address space, bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))
