"""DVC on one run after another: its profile is changed for this call alone, and params.yaml stays as it is.

The same as `dvc repro`, but for a run that params.yaml need not name. What a run makes is kept under its own label, so
that runs stand side by side.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pipeline.artifacts.layout import WORKSPACE
from pipeline.config.labels import require_label
from pipeline.config.params import Run, overrides_for, read_params, recorded_runs
from pipeline.disk.locks import only_writer
from pipeline.graph.kept import forget_the_dead, verified

PARAMS = "params.yaml"
LARGE = 2**27  # bytes


@contextmanager
def as_if(models: Sequence[str], label: str, overrides: Sequence[str]) -> Iterator[None]:
    """DVC reads these values of params.yaml, in this process alone."""
    from dvc.utils import serialize

    kept = serialize.LOADERS[".yaml"]

    def load(path: Any, *arguments: Any, **named: Any) -> Any:
        values = kept(path, *arguments, **named)
        if Path(path).name != PARAMS:
            return values
        return {**values, "models": list(models), "profile": label, "overrides": list(overrides)}

    serialize.LOADERS[".yaml"] = load
    try:
        yield
    finally:
        serialize.LOADERS[".yaml"] = kept


class Counted:
    """A file whose reading is counted."""

    def __init__(self, file: Any, advance: Callable[[int], None]):
        self._file, self._advance = file, advance

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._advance(len(data))
        return data


def _size(file: Any) -> int:
    try:
        return os.fstat(file.fileno()).st_size
    except (AttributeError, OSError):  # bytes in memory
        return 0


@contextmanager
def shown_hashes() -> Iterator[None]:
    """A bar for each large file that DVC reads to know it again, which takes seconds and is silent otherwise."""
    from dvc_data.hashfile import hash as hashing

    from pipeline.progress import byte_progress

    plain = hashing.fobj_md5

    def shown(file: Any, *arguments: Any, **named: Any) -> str:
        size = _size(file)
        if size < LARGE:
            return plain(file, *arguments, **named)
        with byte_progress("DVC keeps a large file", size) as advance:
            return plain(cast(Any, Counted(file, advance)), *arguments, **named)

    hashing.fobj_md5 = shown
    try:
        yield
    finally:
        hashing.fobj_md5 = plain


@contextmanager
def shown_keeping() -> Iterator[None]:
    """A line when DVC takes over from a stage: it hashes what was made, and silently what the next stage reads."""
    from dvc.stage import Stage

    from pipeline.progress import note

    plain = Stage.save

    def shown(self: Stage, *arguments: Any, **named: Any) -> None:
        note(f"DVC: keeping what {self.addressing.split('@')[0]} made")
        plain(self, *arguments, **named)

    Stage.save = shown
    try:
        yield
    finally:
        Stage.save = plain


def dvc(run: Run, *command: str) -> int:
    """A DVC command for a run; its exit status."""
    from dvc.cli import main

    # Stages are started as `python`: the one that runs this.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with as_if([run.model], run.label, run.overrides), shown_hashes(), shown_keeping(), verified():
        return main(list(command))


def alone(run: Callable[[], None]) -> None:
    """Call `run` once no other process runs the graph here, which it waits for."""
    with only_writer(WORKSPACE, "runs the graph here"):
        forget_the_dead()
        run()


def in_utf8(verb: str) -> None:
    """Start this process again where DVC could not name files of other letters: it writes names as UTF-8."""
    if sys.getfilesystemencoding() != "utf-8":
        command = [sys.executable, "-m", "pipeline", verb, *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONUTF8": "1"})


def runs_of(label: str | None, root: Path = Path()) -> list[Run]:
    """A run for each model of params.yaml, under its label or the one given."""
    params = read_params(root / PARAMS)
    label = params.label if label in (None, params.profile) else label
    require_label(label)
    return [Run(model, label, tuple(overrides_for(model, label, root))) for model in params.models]


def every_run(root: Path = Path()) -> list[Run]:
    """Every run of dvc.lock and of params.yaml, each once."""
    found = {(run.model, run.label): run for run in (*recorded_runs(root / "dvc.lock"), *runs_of(None, root))}
    return [found[key] for key in sorted(found)]
