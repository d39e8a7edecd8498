"""What DVC keeps, held against its hashes before it is used; and what a killed DVC leaves in the way.

Stage `code` does so for a plain `dvc repro`; `make repro` does it as it goes. DVC trusts its cache: an object that is
write-protected is not read before it stands in the workspace, and a file whose size and time are the same counts as
the same.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.graph.shown import shown_hashes
from pipeline.progress import note

RWLOCK = Path(".dvc/tmp/rwlock")


@contextmanager
def verified() -> Iterator[None]:
    """In this process DVC reads each object of its cache once before it uses it, and removes a damaged one.

    What made it then runs again. A file that is no link into the cache is read as well, whatever its size and time.
    """
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_data.hashfile.state import State
    from dvc_objects.errors import ObjectFormatError

    check, get, get_many = LocalHashFileDB.check, State.get, State.get_many
    whole: set[str] = set()

    def checked(self: Any, oid: str, *arguments: Any, **named: Any) -> Any:
        path = self.oid_to_path(oid)
        if path not in whole:
            if _md5(self, path) != oid.partition(".")[0]:
                note(f"{os.path.relpath(path)} is damaged: removed, and what made it runs again")
                os.unlink(path)
                raise ObjectFormatError(f"{path} is damaged")
            whole.add(path)
        return check(self, oid, *arguments, **named)

    def known(self: Any, path: str, *arguments: Any, **named: Any) -> Any:
        return get(self, path, *arguments, **named) if _is_link(path) else (None, None)

    def known_many(self: Any, *arguments: Any, **named: Any) -> Any:
        for path, meta, found in get_many(self, *arguments, **named):
            yield (path, meta, found) if _is_link(path) else (path, None, None)

    LocalHashFileDB.check, State.get, State.get_many = checked, known, known_many  # type: ignore[method-assign]
    try:
        yield
    finally:
        LocalHashFileDB.check, State.get, State.get_many = check, get, get_many  # type: ignore[method-assign]


def _md5(cache: Any, path: str) -> str:
    from dvc_data.hashfile.hash import file_md5

    return file_md5(path, cache.fs, name=cache.hash_name)


def _is_link(path: str) -> bool:
    try:
        return os.stat(path).st_nlink > 1
    except OSError:
        return False


def forget_the_dead(rwlock: Path = RWLOCK) -> None:
    """Remove DVC's note of who reads and writes what when nobody who stands in it lives, or when it was torn."""
    try:
        noted = json.loads(rwlock.read_text(encoding="utf-8"))
        readers = [holder for holders in noted["read"].values() for holder in holders]
        pids = {holder["pid"] for holder in (*readers, *noted["write"].values())}
        written = rwlock.stat().st_mtime
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pids, written = set(), 0.0
    if not any(_lives(pid, written) for pid in pids):
        rwlock.unlink(missing_ok=True)


def _lives(pid: int, at: float) -> bool:
    """Whether the process that had this number at a time, in seconds of the clock, still runs."""
    try:
        return psutil.Process(pid).create_time() <= at
    except (psutil.Error, ValueError, TypeError):
        return False


def verify() -> None:
    """Hold what the runs of params.yaml have made against its hashes, in the workspace and in DVC's cache.

    A damaged object is removed, and of a damaged file DVC learns that it has changed: `dvc repro` makes both again.
    """
    from dvc.repo import Repo
    from dvc_objects.errors import ObjectFormatError

    with shown_hashes(), verified(), Repo() as repo:
        for out in repo.index.outs:
            if out.use_cache and out.hash_info:
                with suppress(ObjectFormatError, FileNotFoundError):
                    out.cache.check(out.hash_info.value)  # the list of a folder, which may be no JSON any more
                out.status()
