"""The header of a safetensors file, and which files a folder's weights are in; nothing is believed unchecked."""

import json
import math
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.disk import files
from pipeline.errors import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
AGAIN = "fetch the model again"
LARGEST_HEADER = 100_000_000  # bytes, as in the safetensors library
# Bits of a number of each type. The library has packed ones too, whose tensors no family writes with.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16,
    "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "F4": 4,
}  # fmt: skip
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Stored:
    """A tensor's place: `file`, and its first and last byte there."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def n_bytes(self) -> int:
        """Size on disk."""
        return self.end - self.start


def weight_map(folder: Path) -> dict[str, str] | None:
    """{tensor: file} of the index, None where all weights are in one file.

    Raises UserError for a folder with both, one of which would be read here and the other there; for an index that is
    none, and for a name in it that is not that of a file beside it.
    """
    if not (folder / INDEX).exists():
        return None
    index = files.read_json(folder / INDEX)
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, dict) or not named or not all(isinstance(file, str) for file in named.values()):
        raise UserError(f"{folder / INDEX} has no weight_map of tensors and files: {AGAIN}")
    for file in sorted(set(named.values())):
        if not _is_plain(file):
            raise UserError(f"{folder / INDEX} names '{file}', which is no safetensors file beside it: {AGAIN}")
    if (folder / SINGLE).exists() and set(named.values()) != {SINGLE}:
        raise UserError(f"{folder} holds {SINGLE} and also {INDEX} with other files: remove those that are left over")
    return named


def _is_plain(file: str) -> bool:
    return file.endswith(".safetensors") and file == Path(file).name and "\\" not in file and file.isprintable()


def read_header(folder: Path, file: str) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors and metadata of one file.

    Raises UserError for a file that is missing, outside of the model's folder or repository, not regular, not
    safetensors, cut short, or whose header promises what the file cannot hold.
    """
    path = folder / file
    require_own(folder, path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            if LFS_POINTER.startswith(start) and start:
                raise UserError(f"{path} is a Git LFS pointer, the weights were never fetched: run `git lfs pull`")
            length = struct.unpack("<Q", start)[0]
            if length > min(LARGEST_HEADER, size - 8):
                raise ValueError
            header = json.loads(stream.read(length))
            metadata = header.pop("__metadata__", {})
            tensors = {name: _stored(file, row, 8 + length) for name, row in header.items()}
            _require_gapless(tensors, 8 + length)
            if not all(isinstance(value, str) for value in metadata.values()):
                raise ValueError
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {AGAIN}") from None
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{path} is not a whole safetensors file: {AGAIN}") from None
    expected = max((stored.end for stored in tensors.values()), default=8 + length)
    if size != expected:
        raise UserError(f"{path} has {size} bytes and its header promises {expected}: {AGAIN}")
    return tensors, metadata


def _stored(file: str, row: Any, base: int) -> Stored:
    dtype, shape, (start, end) = row["dtype"], row["shape"], row["data_offsets"]
    numbers = (*shape, start, end)
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        raise ValueError
    if (end - start) * 8 != math.prod(shape) * BITS[dtype]:
        raise ValueError
    return Stored(file, dtype, tuple(shape), base + start, base + end)


def _require_gapless(tensors: Mapping[str, Stored], base: int) -> None:
    """Tensors lie one behind the other: no byte belongs to two or to none."""
    at = base
    for stored in sorted(tensors.values(), key=lambda stored: (stored.start, stored.end)):
        if stored.start != at:
            raise ValueError
        at = stored.end


def require_own(folder: Path, path: Path) -> None:
    """Raises UserError for what is missing or no regular file, and for a link that leads out of the model's folder.

    The hub's cache links from `snapshots/<revision>/` into the same repository's `blobs/`, and that is usual.
    """
    try:
        target = path.resolve(strict=True)
        regular = stat.S_ISREG(target.stat().st_mode)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {AGAIN}") from None
    except (OSError, RuntimeError, ValueError):
        raise UserError(f"{path} cannot be read: {AGAIN}") from None
    if not regular:
        raise UserError(f"{path} is no file: {AGAIN}")
    if not any(target.is_relative_to(root) for root in _roots(folder)):
        raise UserError(f"{path} is a link to {target}, outside of the model's folder: put the file itself there")


def _roots(folder: Path) -> Iterator[Path]:
    yield folder.resolve()
    for own in (folder, folder.resolve()):
        if own.parent.name == "snapshots":
            yield (own.parent.parent / "blobs").resolve()
