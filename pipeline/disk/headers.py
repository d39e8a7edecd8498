"""The tensors of a safetensors file, and which files a folder's weights are in; nothing is believed unchecked.

The library reads and checks the header. It tells no tensor's place in the file, which whoever copies bytes needs.
"""

import json
import math
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pipeline.disk import files
from pipeline.errors import UserError, first_line

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
AGAIN = "fetch the model again"
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
        with path.open("rb") as stream:
            start = stream.read(8)
        if LFS_POINTER.startswith(start) and start:
            raise UserError(f"{path} is a Git LFS pointer, the weights were never fetched: run `git lfs pull`")
        with safe_open(path, framework="np", backend="pread") as opened:
            return _places(opened, file, _data_start(start)), opened.metadata() or {}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or first_line(error)}): {AGAIN}") from None
    except SafetensorError as error:
        if "incomplete metadata" in str(error):
            raise UserError(f"{path} {_sizes(path, _data_start(start))}: {AGAIN}") from None
        raise UserError(f"{path} is not a whole safetensors file: {AGAIN}") from None


def _data_start(first: bytes) -> int:
    """Where tensors begin, by the first eight bytes of a file: behind the header, whose length these are."""
    return 8 + struct.unpack("<Q", first)[0]


def _sizes(path: Path, data_start: int) -> str:
    """What a file has, and what its header promises that is sound but for that."""
    with path.open("rb") as stream:
        header = json.loads(stream.read(data_start)[8:])
    ends = [row["data_offsets"][1] for name, row in header.items() if name != "__metadata__"]
    return f"has {path.stat().st_size} bytes and its header promises {data_start + max(ends, default=0)}"


def _places(opened: Any, file: str, start: int) -> dict[str, Stored]:
    """Tensors in the order of their bytes, which lie one behind the other: no byte belongs to two or to none."""
    places: dict[str, Stored] = {}
    for name in opened.offset_keys():
        part = opened.get_slice(name)
        dtype, shape = part.get_dtype(), tuple(part.get_shape())
        n_bits = 8 if dtype == "BOOL" else int(re.findall(r"\d+", dtype)[0])
        end = start + math.prod(shape) * n_bits // 8
        places[name] = Stored(file, dtype, shape, start, end)
        start = end
    return places


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
