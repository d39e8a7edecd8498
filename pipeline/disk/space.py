"""What lies on the disk, what it is for, and removing it. A file with several names is counted once."""

import filecmp
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.disk.files import explained

AT_REST = 3600.0  # seconds after which what is unfinished, and was not written to, is nobody's


@dataclass(frozen=True)
class Held:
    """Files or folders below `root` that belong together.

    `what`: their sort; `use`: who needs them, or why they stay; `unneeded`: why nobody does, or "". `lock`: the file
    that a process holds while it writes or reads them. `twins`: for each path a file with the same bytes, a
    second name of which takes its place.
    """

    root: Path
    what: str
    name: str
    paths: tuple[Path, ...]
    use: str = ""
    unneeded: str = ""
    lock: Path | None = None
    twins: tuple[Path, ...] = ()


class Ruler:
    """Bytes of files and folders; a file that was measured under another name is nothing more."""

    def __init__(self):
        self._seen: set[tuple[int, int]] = set()

    def size(self, paths: Iterable[Path]) -> int:
        """Bytes of the files in `paths`, links themselves and not what they lead to."""
        sizes = {(row.st_dev, row.st_ino): row.st_size for row in _files(paths)}
        new = sizes.keys() - self._seen
        self._seen |= new
        return sum(sizes[key] for key in new)


def inodes(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """What tells the files in `paths` apart from others, whatever their names."""
    return {(row.st_dev, row.st_ino) for row in _files(paths)}


def _files(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            inside = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        else:
            inside = (path,)
        for file in inside:
            try:
                yield file.lstat()
            except FileNotFoundError:  # removed by another process since it was listed
                continue


def at_rest(path: Path) -> bool:
    """Whether a file or folder was not written to for so long that no process can be at it."""
    times = [row.st_mtime for row in _files([path])]
    try:
        times.append(path.lstat().st_mtime)
    except FileNotFoundError:
        return False
    return time.time() - max(times) > AT_REST


def locked(lock: Path | None) -> bool:
    """Whether another process holds the lock."""
    if lock is None or not lock.is_file():
        return False
    with _holding(lock) as free:
        return not free


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two regular files on one file system, no links, are two copies of the same."""
    left, right = one.lstat(), other.lstat()
    if not (stat.S_ISREG(left.st_mode) and stat.S_ISREG(right.st_mode) and left.st_dev == right.st_dev):
        return False
    return left.st_ino != right.st_ino and filecmp.cmp(one, other, shallow=False)


def remove(held: Held) -> bool:
    """Remove the files and folders, or put links to their twins in their place.

    False, and nothing removed, where another process holds their lock. Never follows a link: one inside a folder is
    removed as such, what lies behind one stays.
    """
    with _holding(held.lock) as free:
        for path, twin in zip_longest(held.paths, held.twins) if free else ():
            assert held.root in path.parents, (held.root, path)
            between = path.relative_to(held.root).parents
            if any((held.root / parent).is_symlink() for parent in between):
                continue
            with explained(path):
                if twin:
                    _link(path, twin)
                elif path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
    return free


def _link(path: Path, twin: Path) -> None:
    if same_bytes(path, twin):  # asked again: it may have been written to since
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.hardlink_to(twin)
        temporary.replace(path)


@contextmanager
def _holding(lock: Path | None) -> Iterator[bool]:
    if lock is None or not lock.parent.is_dir():
        yield True
        return
    holder = FileLock(lock)
    try:
        holder.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        holder.release()
