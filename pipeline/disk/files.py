"""Reading and writing one file or folder: atomic writes, one-line errors, no pickle."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pipeline.errors import UserError

LARGEST = 2**28  # bytes of a text file
SUMS = "SHA256SUMS"  # beside files that are not to change: a sha256 and a name a line
NOTE = re.compile(rb"(?P<digest>[0-9a-fA-F]{64}) [ *](?P<name>[^\x00]+)")  # a line of `sha256sum`
RECIPE = "recipe.json"  # stands in an export of which only the proof is kept
LOCK = ".lock"  # in a folder that a process writes to or reads from alone, held for as long as it does


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk or an unwritable folder into one clear line."""
    try:
        yield
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):
            raise _no_space(path) from None
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(path) from None
        lost = error.errno == errno.ENOENT and not path.parent.exists()  # its folder, and not what was to be read
        if lost or error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"cannot write {path} ({error.strerror}): make its folder writable") from None
        raise


def _no_space(path: Path) -> UserError:
    return UserError(f"no space left to write {path}: free some and run again, nothing finished is lost")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name only when the block succeeds."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def move_folder(folder: Path, target: Path) -> None:
    """Give a folder filled under another name, for resume, its own, on another disk too.

    Raises UserError when that is taken.
    """
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                _move_across(folder, target)
            elif error.errno == errno.ENOTEMPTY:
                raise UserError(f"{target} is there already: remove it, or name another folder") from None
            else:
                raise


def _move_across(folder: Path, target: Path) -> None:
    beside = target.with_name(
        f".{target.name}.{folder.name}"
    )  # on the target's disk; of a killed call, it is filled on
    shutil.copytree(folder, beside, dirs_exist_ok=True)
    move_folder(beside, target)
    shutil.rmtree(folder)


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys; NaN is an error, since JSON has none."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Parsed JSON. Raises UserError for a missing or malformed file."""
    return parse_json(read_text(path), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError for any other file."""
    value = parse_json(read_text(path, missing="is missing"), str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def parse_json(text: str, where: str, line: int | None = None) -> Any:
    """Parsed JSON. Raises UserError naming the place; so for a key that comes twice, of which either may be meant."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}:{line or error.lineno} is not JSON ({error.msg})") from None
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError as error:  # a number of thousands of digits, or a key twice
        reason = str(error)
    raise UserError(f"{where}{f':{line}' if line else ''} is not JSON that can be read ({reason})")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice[:60]!r} comes twice")
    return values


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object per line."""
    with replacing(path) as temporary:
        temporary.write_text("".join(jsonl_line(row) for row in rows), encoding="utf-8")


def jsonl_line(row: Mapping[str, Any]) -> str:
    """One row as it stands in a JSONL file, newline included."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file. Raises UserError with the line number of a malformed one."""
    # Not splitlines(): completions may hold U+2028 and the like, which JSON does not escape.
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [parse_json(line, str(path), number) for number, line in lines if line]


def content_hash(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes. Raises UserError for one that is missing or cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it again with `dvc repro`") from None


def require_noted(path: Path) -> Path:
    """The path. Raises UserError where SHA256SUMS beside it names it and it is missing, no file or has other bytes.

    So for a SHA256SUMS with a line that `sha256sum` does not write: what it noted would go unchecked.
    """
    sums = path.with_name(SUMS)
    try:
        lines = sums.read_bytes().splitlines() if sums.is_file() else []
    except OSError as error:
        raise UserError(f"{sums} cannot be read ({error.strerror}): check it out again") from None
    noted: dict[str, str] = {}
    for number, line in ((number, line) for number, line in enumerate(lines, start=1) if line.strip()):
        if not (note := NOTE.fullmatch(line)):
            raise UserError(f"{sums}:{number} is no sha256 and name of a file: check it out again, or write it anew")
        noted[os.fsdecode(note["name"])] = note["digest"].decode().lower()
    if path.name in noted and not (path.is_file() and file_hash(path) == noted[path.name]):
        raise UserError(f"{path} is not what {sums} notes: check it out again, or note its sha256 there if it is meant")
    return path


def read_text(path: Path, name: str = "", missing: str = "is missing: run `dvc repro`", largest: int = LARGEST) -> str:
    """The whole of a text file, called `name` to the user; a byte-order mark is no part of it.

    Never waits. Raises UserError for what is not there, no regular file, too large or not UTF-8.
    """
    name = name or str(path)
    try:
        status = os.stat(path)
        mode, size = status.st_mode, status.st_size
        if not stat.S_ISREG(mode):  # asked before it is opened: opening a pipe waits for its writer
            raise UserError(f"{name} is {'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'}: name a file")
        with path.open("rb") as stream:
            content = stream.read() if size <= largest else b""  # with a number, all of it is allocated at once
    except FileNotFoundError:
        raise UserError(f"{name} {missing}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{name} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if size > largest:
        raise UserError(f"{name} is larger than {largest / 2**20:g} MiB: give a smaller file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
