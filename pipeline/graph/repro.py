"""DVC on one run after another: its profile is changed for this call alone, and params.yaml stays as it is.

The same as `dvc repro`, but for a run that params.yaml need not name. What a run makes is kept under its own label, so
that runs stand side by side.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.artifacts.layout import WORKSPACE
from pipeline.config.params import Run
from pipeline.disk.locks import only_writer
from pipeline.graph.kept import forget_the_dead, verified
from pipeline.graph.shown import shown_hashes, shown_keeping

PARAMS = "params.yaml"


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
