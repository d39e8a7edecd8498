"""One writer at a time: locks that end with the process that holds them, however it ends."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.disk.files import explained
from pipeline.progress import note


@contextmanager
def only_writer(lock: Path, doing: str) -> Iterator[bool]:
    """Hold a lock file; whether another process had to be waited for, which is said once.

    `doing`: what a holder does, such as `fetches data.bin`. The file goes with the lock: whoever waits for it takes a
    new one. Raises UserError when it cannot be written.
    """
    held, waited = FileLock(lock), False
    with explained(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except Timeout:
            waited = True
            note(f"waiting for {_holder(lock)}, which {doing}")
            held.acquire()
        lock.write_text(str(os.getpid()), encoding="utf-8")
    try:
        yield waited
    finally:
        lock.unlink(missing_ok=True)
        held.release()


def is_held(lock: Path) -> bool:
    """Whether a living process holds a lock file."""
    try:
        if lock.exists():
            FileLock(lock).acquire(timeout=0).lock.release()
    except Timeout:
        return True
    return False


def _holder(lock: Path) -> str:
    try:
        return f"process {int(lock.read_text('utf-8'))}"
    except (OSError, ValueError):  # it has ended meanwhile, or not written its number yet
        return "another process"


def publish_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Fill a temporary folder with `write`, then give it its name: whole or not there, and written by one process.

    What a killed process left of it is removed.
    """
    with only_writer(folder.with_name(f".{folder.name}.lock"), f"makes {folder}"), explained(folder):
        if folder.exists():
            return folder
        for left in folder.parent.glob(f".{folder.name}.tmp-*"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.tmp-"))
        try:
            write(temporary)
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
