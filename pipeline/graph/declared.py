"""dvc.yaml and dvc.lock, typed: what the stages of the graph take and make, and what DVC has recorded of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.disk.files import read_text
from pipeline.disk.plain import parse_yaml
from pipeline.errors import UserError, first_line

GRAPH, LOCK = Path("dvc.yaml"), Path("dvc.lock")
LARGEST_LOCK = 2**25  # bytes
WRONG = (AttributeError, IndexError, KeyError, TypeError, ValueError)  # of values that are not DVC's


@dataclass(frozen=True)
class Out:
    """A file or folder that a stage makes; `committed`: git keeps it, and DVC's cache does not."""

    path: str
    committed: bool


@dataclass(frozen=True)
class Stage:
    """A stage as dvc.yaml has it; paths of a run hold `${item.model}` and `${item.run}`, but see `read_graph`."""

    name: str
    desc: str
    deps: tuple[str, ...]
    params: Mapping[str, tuple[str, ...]]
    """Keys by file."""
    outs: tuple[Out, ...]
    """Metrics and plots among them."""
    frozen: bool


@dataclass(frozen=True)
class Recorded:
    """A stage of a run as it last ran, by dvc.lock."""

    name: str
    """`stage@model-run`, or `stage` of one that no run has of its own."""
    outs: Mapping[str, str]
    """md5 by path; empty where DVC noted none."""
    params: Mapping[str, Mapping[str, Any]]
    """Values by file and key."""

    @property
    def stage(self) -> str:
        """The stage alone."""
        return self.name.split("@")[0]


def read_graph(root: Path = Path(), model: str = "", run: str = "") -> dict[str, Stage]:
    """The stages of dvc.yaml, in its order; none where there is none. `model`, `run`: stand in the paths of that run.

    Raises UserError for a file that DVC would not read.
    """
    path = root / GRAPH
    if not path.exists():
        return {}
    text = read_text(path)
    if model:
        text = text.replace("${item.model}", model).replace("${item.run}", run)
    with _as_dvc_has_it(path):
        stages = parse_yaml(text, str(GRAPH))["stages"]
        return {name: _stage(name, entry) for name, entry in stages.items()}


def _stage(name: str, entry: Mapping[str, Any]) -> Stage:
    named = [item for item in entry.get("params", ()) if isinstance(item, dict)]
    return Stage(
        name=name,
        desc=entry.get("desc", ""),
        deps=tuple(entry.get("deps", ())),
        params={path: tuple(keys or ()) for item in named for path, keys in item.items()},
        outs=tuple(_out(item) for key in ("outs", "metrics", "plots") for item in entry.get(key, ())),
        frozen=bool(entry.get("frozen")),
    )


def _out(item: str | Mapping[str, Mapping[str, Any]]) -> Out:
    if isinstance(item, str):
        return Out(item, committed=False)
    [(path, settings)] = item.items()
    return Out(path, committed=settings.get("cache") is False)


def read_lock(path: Path) -> dict[str, Recorded]:
    """What dvc.lock has of every stage of every run, by `stage@model-run`; nothing where there is none.

    Raises UserError for a file that DVC did not write.
    """
    if not path.exists():
        return {}
    with _as_dvc_has_it(path):
        stages = (parse_yaml(read_text(path, largest=LARGEST_LOCK), str(path)) or {}).get("stages", {})
        return {name: _recorded(name, entry) for name, entry in stages.items()}


def _recorded(name: str, entry: Mapping[str, Any]) -> Recorded:
    outs = {_text(out["path"]): _text(out.get("md5", "")) for out in entry.get("outs", ())}
    return Recorded(name, outs, {path: dict(values) for path, values in entry.get("params", {}).items()})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


@contextmanager
def _as_dvc_has_it(path: Path) -> Iterator[None]:
    try:
        yield
    except WRONG as error:
        raise UserError(f"{path} is not what DVC writes ({first_line(error)}): check it out again") from None
