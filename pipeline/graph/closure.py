"""What code a stage's results depend on: its module, and whatever that imports, also inside functions.

Stage `code` writes outputs/code.json, a hash for each stage of dvc.yaml, and each stage depends on its own: a change of
code, or of a locked library, runs the stages again that can reach it, and no other.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.disk.files import content_hash, read_text
from pipeline.errors import UserError
from pipeline.graph.declared import read_graph

PACKAGE = "pipeline"
GIVEN = f"{PACKAGE}.entry.given"  # hands a stage its configuration
PIN = re.compile(r'^\s*"?([A-Za-z0-9][\w.-]*)==([\w.+!-]+)', re.MULTILINE)
PINNED = ("requirements.lock", "pyproject.toml")  # the second has what the first leaves out
REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*")


def reached(root: Path = Path()) -> dict[str, dict[str, dict[str, str]]]:
    """{stage: {files: {path: hash}, libraries: {name: version}}}, each in order: all that its results depend on.

    Raises UserError for a file of the package that is no Python, and for a stage without a module.
    """
    closures = {stage: closure(f"{PACKAGE}.stages.{stage}", root) for stage in stages(root)}
    files = {path: _hash(root / path) for path in sorted(set().union(*closures.values()))}
    pins = pinned(root)
    needed = {path: _libraries(root / path, pins) for path in files}
    return {
        stage: {
            "files": {path: files[path] for path in paths},
            "libraries": {name: pins[name] for name in sorted(set().union(*(needed[path] for path in paths)))},
        }
        for stage, paths in closures.items()
    }


def record(root: Path = Path()) -> dict[str, Any]:
    """What outputs/code.json holds: {stages: {stage: hash}, files: {path: hash}, libraries: {name: version}}.

    Raises UserError as `reached` does.
    """
    return summary(reached(root))


def summary(rows: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, Any]:
    """A hash for each stage, and what they were made of."""
    return {
        "stages": {stage: content_hash(row)[:16] for stage, row in rows.items()},
        **{kind: dict(item for row in rows.values() for item in row[kind].items()) for kind in ("files", "libraries")},
    }


def stages(root: Path) -> list[str]:
    """The stages of dvc.yaml that have code of their own, in its order."""
    return [name for name in read_graph(root) if name != "code"]


def closure(entry: str, root: Path) -> list[str]:
    """Files that a stage's module runs or may import, itself included, in order."""
    own = set(files_of(entry, root))
    if not any(path.stem == entry.rpartition(".")[2] for path in own):
        raise UserError(f"stage '{entry.rpartition('.')[2]}' of dvc.yaml has no module {entry}")
    paths: set[Path] = set()
    new = own | set(files_of(GIVEN, root))
    while new:
        paths |= new
        names = {name for path in new for name in _imported(path) if name.split(".")[0] == PACKAGE}
        new = {path for name in names for path in files_of(name, root)} - paths
    return sorted(str(path.relative_to(root)) for path in paths)


def files_of(name: str, root: Path) -> Iterator[Path]:
    """The files that importing a name runs: its module's, and those of the packages around it."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:n])
        yield from (path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file())


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names that a module imports, wherever in it; a name out of a module counts as one, which may be no module.

    What is imported for types alone is left out.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            yield from imports(node)


def pinned(root: Path) -> dict[str, str]:
    """{library: version} as locked."""
    pins = [pin for name in PINNED for pin in PIN.findall(read_text(root / name, largest=2**24))]
    return {_normal(name): version for name, version in pins}


def _libraries(path: Path, pins: Mapping[str, str]) -> set[str]:
    """Locked libraries that a module imports, with what they require in turn."""
    tops = {name.split(".")[0] for name in _imported(path)} - sys.stdlib_module_names - {PACKAGE}
    new = {_normal(name) for top in tops for name in DISTRIBUTIONS.get(top, [top])} & pins.keys()
    libraries: set[str] = set()
    while new:
        libraries |= new
        new = {required for name in new for required in _required(name)} & pins.keys() - libraries
    return libraries


DISTRIBUTIONS = metadata.packages_distributions()


@cache
def _required(name: str) -> tuple[str, ...]:
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # of another platform
        return ()
    names = [REQUIREMENT.match(line) for line in lines if "extra ==" not in line]
    return tuple(_normal(found[0]) for found in names if found)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(path: Path) -> tuple[str, ...]:
    try:
        return _parsed(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path} is no Python ({error})") from None


@cache
def _parsed(content: bytes) -> tuple[str, ...]:
    return tuple(imports(ast.parse(content)))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
