"""Is each input of a stage what the stage before it wrote? No result depends on it: a stage is only kept from starting.

A stage that ends well notes the md5 of what others read of it. An input is sound when that note has it, or dvc.lock,
which knows what DVC checked out since. Where neither knows it, the checks of what reads it are all there is.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from configparser import ConfigParser, Error
from pathlib import Path

from pipeline.artifacts.layout import CODE, Layout
from pipeline.disk.files import read_json, read_object, write_json
from pipeline.errors import UserError
from pipeline.graph.declared import LOCK, Stage, read_graph, read_lock

DVC = Path(".dvc")

Sums = Mapping[str, str]  # md5 of a file, by path


def require_as_written(stage: str, layout: Layout) -> None:
    """Raises UserError for an input of a stage that is not what the stage before it wrote."""
    graph = _graph(layout)
    for maker, entry in graph.items():
        read = sorted(_within(graph.get(stage), entry))
        sums = _sums(read)
        noted = _of(read, _noted(maker, layout))
        if not read or sums == noted:
            continue
        locked = _of(read, _locked(f"{maker}@{layout.model}-{layout.run}"))
        if sums == locked or (noted is None and locked is None):
            continue
        known = locked if noted is None else noted
        assert known is not None
        path = min(path for path in sums.keys() | known.keys() if sums.get(path) != known.get(path))
        wrong = f"is not what stage {maker} wrote" if path in sums else "is missing"
        raise UserError(f"{path} {wrong}: run `dvc repro`, which makes it again")


def note_written(stage: str, layout: Layout) -> None:
    """Note the md5 of what other stages read of a stage that has ended well."""
    graph = _graph(layout)
    if stage in graph:
        read = {path for entry in graph.values() for path in _within(entry, graph[stage])}
        write_json(layout.written(stage), _sums(sorted(read)))


def remove_outs(stage: str, layout: Layout) -> None:
    """Remove what a stage makes, as DVC does before it runs one."""
    graph = _graph(layout)
    for path in (Path(out.path) for out in (graph[stage].outs if stage in graph else ())):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _graph(layout: Layout) -> dict[str, Stage]:
    return read_graph(model=layout.model, run=layout.run)


def _within(stage: Stage | None, maker: Stage) -> set[str]:
    """Inputs of a stage that another writes, or writes as part of a folder."""
    named = [path for path in (*stage.deps, *stage.params) if path != str(CODE)] if stage else []
    outs = {Path(out.path) for out in maker.outs}
    return {path for path in named if outs & {Path(path), *Path(path).parents}}


def _sums(paths: Iterable[str]) -> dict[str, str]:
    return {str(file): _md5(file) for path in paths for file in _files(Path(path))}


def _files(path: Path) -> Iterator[Path]:
    return (file for file in (path, *sorted(path.rglob("*"))) if file.is_file())


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from None


def _of(paths: Iterable[str], sums: Sums | None) -> Sums | None:
    """The part of the sums that is of some paths, files or folders; None stays None."""
    wanted = set(map(Path, paths))
    return sums and {file: md5 for file, md5 in sums.items() if wanted & {Path(file), *Path(file).parents}}


def _noted(stage: str, layout: Layout) -> Sums | None:
    """What the stage noted when it last ran here; None where it has not, or the note is damaged."""
    try:
        return read_object(layout.written(stage))
    except UserError:
        return None


def _locked(name: str) -> Sums | None:
    """What dvc.lock has as written by a stage; None where it has nothing, or DVC's list of a folder is not here."""
    try:
        outs = read_lock(LOCK)[name].outs
        if not all(outs.values()):
            return None
        return {file: md5 for out, whole in outs.items() for file, md5 in _listed(out, whole)}
    except (UserError, KeyError, TypeError, AttributeError, Error):
        return None


def _listed(path: str, md5: str) -> Iterator[tuple[str, str]]:
    if not md5.endswith(".dir"):
        yield path, md5
        return
    for row in read_json(_cache() / "files" / "md5" / md5[:2] / md5[2:]):  # what is in a folder, by the folder's hash
        yield f"{path}/{row['relpath']}", row["md5"]


def _cache() -> Path:
    """DVC's cache of this project, wherever it is set to be."""
    settings = ConfigParser(interpolation=None, strict=False)
    settings.read([DVC / "config", DVC / "config.local"])
    return DVC / settings.get("cache", "dir", fallback="cache")
