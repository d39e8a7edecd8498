"""The house holds: which room knows which, and what each may use. Every rule is a line of FLOORS or RULES."""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.conftest import ROOT

PIPELINE = ROOT / "pipeline"
BASE = ("display", "errors", "names", "printed", "progress")  # modules beside the rooms that all of them may know
WINGS = ("judges", "export", "capability", "loss", "suffix", "published", "regression", "report", "sweep")
# A room knows those of the lines above its own, and none of its own line.
FLOORS = (
    ("base",),
    ("disk",),
    ("config", "sources", "maths"),
    ("prompts",),
    ("artifacts",),
    ("results",),
    ("model",),
    WINGS,
    ("graph",),
    ("entry",),
    ("stages", "bench"),
    ("commands",),
    ("door",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
PURE = {"torch", "jaxtyping", "numpy", "scipy", "statsmodels", "sklearn", "concept_erasure", "pandas"}
STANDARD = {"math", "dataclasses", "collections", "functools", "itertools", "typing"}
TRANSFORMERS = {"transformers", "nnsight", "tokenizers"}
DESCRIBED = {"family", "chat", "probe_question"}  # what of the configuration a model is described by: plain values


@dataclass(frozen=True)
class Module:
    """`name` and `ours` without `pipeline.`; `libraries` by their first word."""

    name: str
    ours: set[str] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)
    n_lines: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.name.split("."))

    @property
    def room(self) -> str:
        return room_of(self.name)


def room_of(name: str) -> str:
    first = name.split(".")[0]
    return "base" if first in BASE else "door" if first == "__main__" else first


def modules() -> dict[str, Module]:
    paths = [path for path in PIPELINE.rglob("*.py") if path != PIPELINE / "__init__.py"]
    names = {".".join(path.relative_to(PIPELINE).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    found = {}
    for path in paths:
        text = path.read_text()
        ours, libraries = set(), set()
        for name in imported(ast.parse(text)):
            if name.split(".")[0] != "pipeline":
                libraries.add(name.split(".")[0])
            else:
                own = name.removeprefix("pipeline.")
                ours |= {own if own in names else own.rpartition(".")[0]} - {"", "pipeline"}
        name = ".".join(path.relative_to(PIPELINE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = Module(name, ours & names, libraries, len(text.splitlines()))
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names, also of what is imported inside functions or for types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_maths(module: Module) -> bool:
    return "maths" in module.parts


def is_model(module: Module) -> bool:
    return "model" in module.parts and module.room != "entry"


RULES: dict[str, Callable[[Module], bool]] = {
    "a room knows those below it": lambda m: all(
        LEVEL[room_of(name)] < LEVEL[m.room] for name in m.ours if room_of(name) != m.room
    ),
    "config knows names and how files are read": lambda m: m.room != "config" or not {*map(room_of, m.ours)} - {
        "base", "disk", "config"
    },
    "maths is pure": lambda m: not is_maths(m) or m.libraries <= PURE | STANDARD,
    "maths knows maths": lambda m: not is_maths(m) or all("maths" in f".{n}.".split(".") for n in m.ours - {"names"}),
    "only what has a model part runs one": lambda m: is_model(m) or not m.libraries & TRANSFORMERS,
    "a model is described by plain values": lambda m: not is_model(m) or not {
        name for name in m.ours if room_of(name) == "config" and name.split(".")[-1] not in DESCRIBED
    },
    "a model is found on a disk where it is loaded": lambda m: m.room != "model"
    or "loading" in m.parts
    or (not {"disk", "artifacts", "sources"} & {*map(room_of, m.ours)} and "pathlib" not in m.libraries),
    "results are values": lambda m: m.room != "results" or not m.libraries & {"rich", "matplotlib"},
    "a stage does no arithmetic": lambda m: m.room != "stages" or not m.libraries & {"torch", "numpy"},
    "a stage is short": lambda m: m.room != "stages" or m.n_lines <= 80,
    "a file is read at a sitting": lambda m: m.n_lines <= 300,
    "nothing knows a stage but what stages share": lambda m: m.room == "stages"
    or not {name for name in m.ours if room_of(name) == "stages"},
    "stages know each other by what they share": lambda m: not {
        name for name in m.ours if name.startswith("stages.") and not name.startswith("stages.shared")
    },
    "commands do not know each other": lambda m: not {name for name in m.ours if name.startswith("commands.")},
}  # fmt: skip


def broken(found: Mapping[str, Module]) -> list[str]:
    lines = [f"{m.name}: {rule}" for m in found.values() for rule, holds in RULES.items() if not holds(m)]
    try:
        graph = {name: module.ours for name, module in found.items()}
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        lines.append(f"{' -> '.join(error.args[1])}: modules import no circle")
    return lines


FOUND = modules()


def test_every_room_has_its_floor():
    assert {module.room for module in FOUND.values()} == LEVEL.keys()


def test_the_house_holds():
    assert broken(FOUND) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("config.schema", "maths.selection"),
        ("maths.directions", "artifacts.layout"),
        ("maths.directions", "disk.files"),
        ("maths.directions", "transformers"),
        ("judges.maths.linear_probe", "judges.verdict"),
        ("judges.maths.linear_probe", "pathlib"),
        ("disk.files", "artifacts.layout"),
        ("artifacts.records", "model.chat.chat"),
        ("results.judgements", "rich"),
        ("model.passes.forward", "config.schema"),
        ("model.passes.forward", "disk.files"),
        ("model.generation.decoding", "pathlib"),
        ("model.loading.loading", "judges.names"),
        ("judges.registry", "transformers"),
        ("export.card", "judges.registry"),
        ("suffix.files", "report.tables.wording"),
        ("graph.repro", "entry.program"),
        ("entry.program", "stages.scores"),
        ("stages.scores", "torch"),
        ("stages.scores", "stages.direction"),
        ("commands.golden", "stages.golden"),
        ("commands.check", "commands.gate"),
        ("progress", "disk.files"),
        ("maths.directions", "maths.estimators"),
    ],
)  # fmt: skip
def test_a_wrong_import_is_seen(name, what):
    old = FOUND[name]
    is_ours = room_of(what) in LEVEL
    new = Module(
        name,
        old.ours | ({what} if is_ours else set()),
        old.libraries | (set() if is_ours else {what}),
        old.n_lines,
    )
    assert [line for line in broken({**FOUND, name: new}) if name in line]


@pytest.mark.parametrize(("name", "most"), [("stages.scores", 80), ("maths.directions", 300)])
def test_a_long_file_is_seen(name, most):
    long = replace(FOUND[name], n_lines=most)
    assert broken({**FOUND, name: long}) == []
    assert [line for line in broken({**FOUND, name: replace(long, n_lines=most + 1)}) if name in line]
