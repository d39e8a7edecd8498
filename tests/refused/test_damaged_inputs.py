"""Every stage with every input damaged in every way: one line that names the file, or the same bytes as before.

All stages, inputs and ways are far too many for one run: DAMAGE_N sets how many are drawn (`all` for every one), and
FUZZ_SEED repeats a draw. A new stage, or a new input of one, is among them by its entry in dvc.yaml.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.helpers.damage import ways
from tests.helpers.fuzz import SEED
from tests.helpers.graph import RUN, Project

N = os.environ.get("DAMAGE_N") or "300"
REMEDY = re.compile(r"`dvc repro`|check it out again|`make repro`")
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = {name: stage for name, stage in GRAPH.items() if "matrix" in stage}
NO_FILE = ("missing", "a folder")


@dataclass(frozen=True)
class Cell:
    """One input of one stage, and what happens to it."""

    stage: str
    path: str
    way: str


@dataclass(frozen=True)
class Outcome:
    """`kind`: one line, equal bytes, silent or traceback; `text` is what was said, or which outs differ."""

    cell: Cell
    kind: str
    text: str


def _here(path: str) -> str:
    return path.replace("${item.model}", "tiny").replace("${item.run}", RUN)


def inputs(stage: dict[str, Any], folder: Path) -> list[str]:
    """Files that a stage of dvc.yaml depends on, in a project that has run."""
    keyed = [path for params in stage["params"] if isinstance(params, dict) for path in params]
    named = [_here(path) for path in (*stage.get("deps", ()), *keyed) if path not in ("conf", "outputs/code.json")]
    files = [path for name in named for path in (folder / name, *sorted((folder / name).rglob("*")))]
    return [str(path.relative_to(folder)) for path in files if path.is_file() and path.suffix not in (".md", ".py")]


def outs(stage: dict[str, Any]) -> list[str]:
    """Files and folders that a stage writes."""
    listed = [*stage.get("outs", ()), *stage.get("metrics", ())]
    return [_here(out if isinstance(out, str) else next(iter(out))) for out in listed]


class Bench:
    """A project that has run, and a process in it that runs single stages; every damage is undone."""

    def __init__(self, folder: Path):
        self.folder, self.healthy = folder, folder.with_name(f"{folder.name}-healthy")
        shutil.copytree(folder / "outputs", self.healthy, dirs_exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
        server = str(ROOT / "tests" / "helpers" / "stage_server.py")
        self.process = subprocess.Popen(
            [sys.executable, server, "tiny", RUN, *STAGES],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def cells(self) -> list[Cell]:
        return [
            Cell(name, path, way)
            for name, stage in STAGES.items()
            for path in inputs(stage, self.folder)
            for way in (*NO_FILE, *ways(Path(path).suffix))
        ]

    def run(self, stage: str, readers_alone: bool = False) -> dict[str, str]:
        """A stage as after DVC has removed what it wrote."""
        for out in outs(STAGES[stage]):
            _remove(self.folder / out)
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"stage": stage, "readers_alone": readers_alone}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def outcome(self, cell: Cell, seed: int, readers_alone: bool = False) -> Outcome | None:
        """What a stage makes of one damaged input; None where the damage changes nothing."""
        path = self.folder / cell.path
        before = path.read_bytes()
        try:
            path.unlink()  # it may be one file with DVC's copy
            if cell.way in NO_FILE:
                if cell.way == "a folder":
                    path.mkdir()
            else:
                after = ways(path.suffix)[cell.way](before, random.Random(f"{seed} {cell}"))
                if after == before:
                    return None
                path.write_bytes(after)
            said = self.run(cell.stage, readers_alone)
            if text := said.get("error"):
                return Outcome(cell, "one line", text)
            if text := said.get("traceback"):
                return Outcome(cell, "traceback", text)
            differ = [out for out in outs(STAGES[cell.stage]) if self.content(out) != self.expected(out)]
            return Outcome(cell, "silent" if differ else "equal bytes", ", ".join(differ))
        finally:
            _remove(path)
            path.write_bytes(before)
            self.restore(cell.stage)

    def restore(self, stage: str) -> None:
        for out in outs(STAGES[stage]):
            _remove(self.folder / out)
            source = self.healthy / Path(out).relative_to("outputs")
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.folder / out)
        shutil.rmtree(self.folder / "outputs" / "partial", ignore_errors=True)

    def content(self, out: str) -> dict[str, bytes]:
        return _content(self.folder / out)

    def expected(self, out: str) -> dict[str, bytes]:
        return _content(self.healthy / Path(out).relative_to("outputs"))


def _content(path: Path) -> dict[str, bytes]:
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def bench(finished, tmp_path_factory):
    built = Bench(Project.copied(finished, tmp_path_factory.mktemp("project")).folder)
    yield built
    built.close()


def test_a_healthy_project_gives_the_same_bytes_here(bench):
    for stage in STAGES:
        assert bench.run(stage) == {}, stage
        assert [out for out in outs(STAGES[stage]) if bench.content(out) != bench.expected(out)] == [], stage
        bench.restore(stage)


def drawn(bench: Bench, n: int) -> list[Cell]:
    """All cells, or so many of them."""
    every = bench.cells()
    found = every if N == "all" else random.Random(SEED).sample(every, min(n, len(every)))
    print(f"FUZZ_SEED={SEED}: {len(found)} of {len(every)} damaged inputs", file=sys.stderr)
    return found


def outcomes(bench: Bench, cells: list[Cell], readers_alone: bool = False) -> dict[str, list[Outcome]]:
    """What came of them, by kind."""
    found: dict[str, list[Outcome]] = {}
    for cell in cells:
        if outcome := bench.outcome(cell, SEED, readers_alone):
            found.setdefault(outcome.kind, []).append(outcome)
    print({kind: len(rows) for kind, rows in found.items()}, file=sys.stderr)
    return found


def without_remedy(found: dict[str, list[Outcome]]) -> list[Outcome]:
    """Lines that do not say what to do."""
    return [outcome for outcome in found.get("one line", []) if not REMEDY.search(outcome.text)]


def test_no_damaged_input_ends_in_a_traceback_or_in_another_result(bench):
    found = outcomes(bench, drawn(bench, int(N) if N.isdigit() else 0))
    wrong = [*found.get("traceback", []), *found.get("silent", []), *without_remedy(found)]
    assert not wrong, "\n".join(map(str, wrong))


def test_what_the_stage_before_did_not_note_ends_in_no_traceback(bench):
    """As in a clone that has data of another machine: what reads a file is all that looks at it."""
    found = outcomes(bench, drawn(bench, int(N) // 5 if N.isdigit() else 0), readers_alone=True)
    wrong = [*found.get("traceback", []), *without_remedy(found)]
    assert not wrong, "\n".join(map(str, wrong))
