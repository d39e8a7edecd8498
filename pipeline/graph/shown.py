"""What DVC does in silence, shown."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from pipeline.progress import byte_progress, note

LARGE = 2**27  # bytes


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

    plain = Stage.save

    def shown(self: Stage, *arguments: Any, **named: Any) -> None:
        note(f"DVC: keeping what {self.addressing.split('@')[0]} made")
        plain(self, *arguments, **named)

    Stage.save = shown
    try:
        yield
    finally:
        Stage.save = plain
