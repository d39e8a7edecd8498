"""What DVC's cache holds: outs of the runs of dvc.lock and of a sweep's jobs, and what nobody has any more."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.disk.space import Held, at_rest, inodes, same_bytes
from pipeline.errors import UserError
from pipeline.graph.declared import LOCK, read_lock

WHAT, PARTIAL, COPIED = "DVC's cache", "outputs/partial", "second copies"
OF_PROJECT = (WHAT, PARTIAL, COPIED)  # left alone while a process makes results here
KEPT = "outputs/models/"  # where the outs that DVC keeps are
OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")
SMALL = 2**20  # bytes of an out that has no row of its own
PARTS = {"completions": ("completions", "further")}  # stages whose unfinished work begins so, where not its own name
COPIES = "DVC's cache has the same bytes: one copy will do"
NOBODY = "neither dvc.lock nor the workspace has it"


def jobs(root: Path) -> list[Path]:
    """Folders of the jobs of sweeps, which share the project's cache."""
    return sorted(path.parent for path in (root / ".sweep" / "jobs").glob("*/dvc.yaml"))


def held(root: Path, cache: Path) -> Iterator[Held]:
    """Objects of the DVC cache `cache` by who has them. Raises UserError for a dvc.lock that is none.

    dvc.lock has the runs that params.yaml does not name as well, which `dvc gc` would not see. A cache outside of
    the project is other projects' too: of that one nothing is unneeded.
    """
    objects = {path.parent.name + path.name: path for path in _objects(cache)}
    shared = root not in cache.parents
    for project in (root, *jobs(root)):
        job = "" if project == root else f", job {project.name}"
        small: dict[str, list[Path]] = {}
        for out, digest in _outs(project):
            paths = tuple(objects.pop(key) for _, key in _parts(digest, objects) if key in objects)
            *_, model, run, name = ("", "", *Path(out).parts)
            if sum(path.stat().st_size for path in paths) < SMALL:
                small.setdefault(f"{model}, {run}{job}", []).extend(paths)
            else:
                yield Held(cache, WHAT, name, paths, f"{model}, {run}{job}")
        yield from (Held(cache, WHAT, "small outs", tuple(paths), use) for use, paths in small.items() if paths)
    folders = [root / "outputs", *(job / "outputs" for job in jobs(root))]
    linked = inodes(folders)
    here = [path for path in objects.values() if inodes([path]) <= linked]
    rest = sorted(set(objects.values()) - set(here))
    if here:
        yield Held(cache, WHAT, "objects", tuple(here), "in the workspace, not in dvc.lock")
    if rest:
        use = "of another project, or of nobody" if shared else ""
        yield Held(cache, WHAT, f"{len(rest)} objects", tuple(rest), use, "" if shared else NOBODY)


def second_copies(root: Path, cache: Path) -> Iterator[Held]:
    """Outs that lie beside their objects instead of being them, where the file system has files with several names.

    DVC links what it puts into its cache, and leaves a copy where a stage made again what the cache had already.
    """
    objects = {path.parent.name + path.name: path for path in _objects(cache)}
    for project in (root, *jobs(root)):
        outs = [(project / path, objects[key]) for path, key in _files(project, objects) if key in objects]
        pairs = [(path, twin) for path, twin in outs if path.is_file() and same_bytes(path, twin)]
        if pairs:
            paths, twins = zip(*pairs, strict=True)
            yield Held(root, COPIED, f"{len(pairs)} files", paths, unneeded=COPIES, twins=twins)


def _files(project: Path, objects: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(path, md5) of every file of the outs that DVC keeps for a project; others are in git."""
    kept = (row for row in _outs(project) if row[0].startswith(KEPT))
    for out, digest in kept:
        yield from ((f"{out}{name}", key) for name, key in _parts(digest, objects))


def _objects(cache: Path) -> Iterator[Path]:
    files = cache / "files" / "md5"
    for path in sorted(files.glob("??/*")):
        if OBJECT.fullmatch(str(path.relative_to(files))) and path.is_file() and not path.is_symlink():
            yield path


def _outs(project: Path) -> Iterator[tuple[str, str]]:
    """(path, md5) of every out that a project's dvc.lock has."""
    for recorded in read_lock(project / LOCK).values():
        yield from ((path, md5) for path, md5 in recorded.outs.items() if md5)


def _parts(digest: str, objects: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """(path below the out, object) of an out: of itself, and of a folder of every file, as its object lists them."""
    if digest.endswith(".dir") and digest in objects:
        try:
            rows: Any = json.loads(objects[digest].read_text(encoding="utf-8"))
            yield from [("/" + row["relpath"], row["md5"]) for row in rows]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{objects[digest]} is damaged: delete it, and run the stage again") from None
    yield "", digest


def unfinished(root: Path, finished: Collection[str]) -> Iterator[Held]:
    """Work under outputs/partial; `finished`: stages that every configured run has done, whose work is nobody's."""
    folder = root / "outputs" / "partial"
    for path in sorted(folder.glob("*")) if not folder.is_symlink() else ():
        stages = PARTS.get(path.name.partition("-")[0], (path.name.partition("-")[0],))
        left = set(stages) <= set(finished) and at_rest(path)
        use = "" if left else "goes on when its stage, or its search, runs again"
        why = "every run has finished its stage" if left else ""
        yield Held(root, PARTIAL, path.name[:32], (path,), use, why)
