"""Checkpoints of safetensors files: read by the library, rewritten tensor by tensor.

The format (one JSON header, then the tensors' bytes) is written here because the library needs every tensor of a file
in memory to write it.
"""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.disk import files, headers
from pipeline.disk.files import SUMS
from pipeline.disk.headers import AGAIN, INDEX, SINGLE, Stored
from pipeline.errors import UserError, first_line

FINISHED = ".finished.json"
# What travels with weights: configuration, tokenizer, template, generation settings. Never code or other weights.
COMPANIONS = {".json", ".txt", ".model", ".jinja", ".tiktoken"}
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
# In files of the safetensors library, wider types come first (so that all are aligned), then names.
ORDER = ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "F16", "BF16", "I32", "F32", "F64", "I64"]
CHUNK = 2**24


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model folder by name; nothing of them is in memory."""

    folder: Path
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]
    sharded: bool

    def read(self, name: str) -> Tensor:
        """One tensor. Raises UserError for a type that holds no plain floating-point numbers, and a damaged file."""
        stored = self.tensors[name]
        if stored.dtype not in DTYPES:
            raise UserError(
                f"{self.folder / stored.file} stores '{name}' as {stored.dtype}, packed or quantised: "
                "export from the model's full-precision repository"
            )
        try:
            with safe_open(self.folder / stored.file, framework="pt", backend="pread") as opened:
                return opened.get_tensor(name)
        except (OSError, SafetensorError) as error:  # it changed since its header was read
            raise UserError(f"{self.folder / stored.file} cannot be read ({first_line(error)}): {AGAIN}") from None


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of a model folder, of one file or of several with their index.

    Raises UserError for what `headers` finds wrong with a file or the index, for a tensor that the index promises and
    its file does not have, and for one that two files have.
    """
    weight_map = headers.weight_map(folder)
    tensors: dict[str, Stored] = {}
    metadata: dict[str, str] = {}
    for file in sorted(set(weight_map.values())) if weight_map else [SINGLE]:
        entries, metadata = headers.read_header(folder, file)
        for name in sorted(entries.keys() & tensors.keys()):
            raise UserError(f"{folder} has tensor '{name}' in {tensors[name].file} and in {file}: {AGAIN}")
        tensors.update(entries)
    for name, file in (weight_map or {}).items():
        if name not in tensors or tensors[name].file != file:
            raise UserError(f"{folder / file} lacks tensor '{name}' that {INDEX} lists: {AGAIN}")
    return Checkpoint(folder, tensors, metadata, sharded=weight_map is not None)


@dataclass(frozen=True)
class Rewriting:
    """What is to change: `edit` in place for `edited` names, `copies` (new name: old name), config.json values."""

    edited: Collection[str]
    edit: Callable[[str, Tensor], None]
    copies: Mapping[str, str]
    config: Mapping[str, Any]


def rewrite(
    source: Checkpoint, folder: Path, change: Rewriting, progress: Callable[[float], None] = lambda n_bytes: None
) -> None:
    """Write the checkpoint with its changes into `folder`, file by file, one tensor in memory at a time.

    A folder left by an interrupted call is gone on with: files that were finished, and still have
    the sha256 that was noted for them, are kept. Index and SHA256SUMS come last. Raises UserError,
    before anything is written, when the disk lacks space.
    """
    plan = _plan(source, change)
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*"):
            if left.name != FINISHED:  # half a file of a process that was killed
                left.unlink()
        done = _finished(folder)
        _require_space(folder, sum(_size(rows) for file, rows in plan.items() if file not in done))
        for file, rows in plan.items():
            if file not in done:
                done[file] = _write_file(source, folder / file, rows, change, progress)
                files.write_json(folder / FINISHED, done)
            else:
                progress(_size(rows))
        done |= _companions(source.folder, folder, change.config)
        if source.sharded:
            _write_index(folder, plan)
            done[INDEX] = files.file_hash(folder / INDEX)
        with files.replacing(folder / SUMS) as path:
            path.write_text("".join(f"{done[file]}  {file}\n" for file in sorted(done)), encoding="utf-8")
        for path in folder.glob(".*"):  # FINISHED, and what interrupted calls left half written
            path.unlink(missing_ok=True)


def n_bytes(source: Checkpoint, change: Rewriting) -> int:
    """Bytes of all tensors that `rewrite` will write."""
    return sum(map(_size, _plan(source, change).values()))


Row = tuple[str, Stored, str]  # name, where its bytes come from, and under which name


def _plan(source: Checkpoint, change: Rewriting) -> dict[str, list[Row]]:
    plan: dict[str, list[Row]] = {}
    for name, stored in source.tensors.items():
        if name not in change.copies:
            plan.setdefault(stored.file, []).append((name, stored, name))
    for name, old in change.copies.items():
        plan[source.tensors[old].file].append((name, source.tensors[old], old))
    return {file: sorted(rows, key=_place) for file, rows in plan.items()}


def _place(row: Row) -> tuple[int, str]:
    name, stored, _ = row
    return (-ORDER.index(stored.dtype) if stored.dtype in ORDER else 1, name)


def _size(rows: list[Row]) -> int:
    return sum(stored.n_bytes for _, stored, _ in rows)


def _finished(folder: Path) -> dict[str, str]:
    try:
        if (folder / SUMS).exists():
            lines = files.read_text(folder / SUMS).splitlines()
            noted = {file: sha for sha, file in (line.split("  ") for line in lines)}
        else:
            noted = files.read_object(folder / FINISHED) if (folder / FINISHED).exists() else {}
    except (UserError, ValueError):  # a damaged note: nothing counts as finished
        noted = {}
    there = {file: sha for file, sha in noted.items() if (folder / file).exists()}
    return {file: sha for file, sha in there.items() if files.file_hash(folder / file) == sha}


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} needs {needed / 2**30:.2f} GiB more and its disk has {free / 2**30:.2f} GiB free: "
            "free some or choose another folder; nothing was written"
        )


def _write_file(
    source: Checkpoint, path: Path, rows: list[Row], change: Rewriting, progress: Callable[[float], None]
) -> str:
    digest = hashlib.sha256()
    with files.replacing(path) as temporary, temporary.open("wb") as out:

        def put(data: Any) -> None:
            digest.update(data)
            out.write(data)

        put(_header_bytes(rows, source.metadata))
        for name, stored, old in rows:
            if name in change.edited:
                # Of a large tensor each third takes seconds.
                tensor = source.read(old)
                progress(stored.n_bytes / 3)
                change.edit(name, tensor)
                progress(stored.n_bytes / 3)
                put(tensor.reshape(-1).view(torch.uint8).numpy().data)
                progress(stored.n_bytes / 3)
            else:
                _copy(source.folder / stored.file, stored, put, progress)
    return digest.hexdigest()


def _copy(path: Path, stored: Stored, put: Callable[[bytes], None], progress: Callable[[float], None]) -> None:
    with path.open("rb") as stream:
        stream.seek(stored.start)
        left = stored.n_bytes
        while left:
            data = _read(stream, min(CHUNK, left), path)
            put(data)
            left -= len(data)
            progress(len(data))


def _read(stream: BinaryIO, size: int, path: Path) -> bytes:
    data = stream.read(size)
    if not data:
        raise UserError(f"{path} ended while it was read: {AGAIN}")
    return data


def _header_bytes(rows: list[Row], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for name, stored, _ in rows:
        end = offset + stored.n_bytes
        header[name] = {"dtype": stored.dtype, "shape": list(stored.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _companions(source: Path, folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    names = {path.name for path in source.iterdir() if path.suffix in COMPANIONS and not path.name.startswith(".")}
    names -= {INDEX, "config.json"}
    for name in sorted(names):
        headers.require_own(source, source / name)
        shutil.copyfile(source / name, folder / name)
    files.write_json(folder / "config.json", _merged(files.read_json(source / "config.json"), config))
    return {name: files.file_hash(folder / name) for name in (*names, "config.json")}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of `new` over those of `old`."""
    nested = {key: _merged(old[key], value) for key, value in new.items() if isinstance(value, Mapping)}
    return {**old, **new, **nested}


def _write_index(folder: Path, plan: Mapping[str, list[Row]]) -> None:
    weight_map = {name: file for file, rows in plan.items() for name, _, _ in rows}
    total = sum(map(_size, plan.values()))
    files.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
