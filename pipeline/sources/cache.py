"""The cache folder: what it holds, and what stops a write."""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError

# Beside a file that is being fetched: downloads under way that are not yet its bytes. Gone once it is whole.
WORK = ".work"


def sha256_of(path: Path) -> str:
    """sha256 of a file, as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def holds(path: Path, sha256: str) -> bool:
    """Whether the file is there and has these bytes."""
    return path.is_file() and sha256_of(path) == sha256


@contextmanager
def writing_to(cache: Path) -> Iterator[None]:
    """Explain why the cache cannot be written. Raises UserError for a full disk and for any other refusal."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"no space left for the cache {cache}: free some"
        else:
            reason = f"cannot write to the cache {cache} ({error.strerror or error}): give access"
        raise UserError(f"{reason}, or set fetch.cache to another folder") from None
