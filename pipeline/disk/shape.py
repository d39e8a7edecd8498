"""Reading what an artefact holds, key by key; a file that holds something else is refused in one line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import cache, reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict, get_type_hints, is_typeddict

from pipeline.disk import files
from pipeline.errors import UserError, first_line

EXACT = with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
AGAIN = "run `dvc repro` to make it again"
# Of values that do not fit: infinity as a count is an OverflowError, and 0 as one a ZeroDivisionError.
WRONG = (KeyError, TypeError, IndexError, AttributeError, ValueError, AssertionError, ArithmeticError)


@contextmanager
def made_again() -> Iterator[None]:
    """Say of a file that cannot be read what makes it again, unless its line says so."""
    try:
        yield
    except UserError as error:
        remedy = "" if "dvc repro" in str(error) else f"; {AGAIN}"
        raise UserError(f"{error}{remedy}") from None


def held(kind: Any, value: Any, where: str) -> Any:
    """The value as it is, of exactly the keys and types of a kind of record. Raises UserError for any other."""
    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        reason = f"{at}: {first['msg']}" if at else first["msg"]
        raise UserError(f"{where} is not what this version of the project writes ({reason}): {AGAIN}") from None
    return value


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(_as_json(kind))


def _as_json(kind: Any) -> Any:
    """The kind as JSON has it: a type of values is the mapping of its fields, all of them there and no other.

    What is read from a text, such as a label, is that text.
    """
    if is_dataclass(kind) or is_typeddict(kind):
        fields = {name: _as_json(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
        return EXACT(TypedDict(kind.__name__, fields))  # type: ignore[operator]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return str
    if origin is Literal or not arguments:
        return kind
    parts = tuple(map(_as_json, arguments))
    if origin in (Union, UnionType):
        return reduce(or_, parts)
    return {Mapping: dict, Sequence: list}.get(origin, origin)[parts[0] if len(parts) == 1 else parts]


def read_record(path: Path, kind: Any) -> Any:
    """A JSON file of a kind of record. Raises UserError for one that is missing, damaged or of another kind."""
    with made_again():
        return held(kind, files.read_json(path), str(path))


def read_rows(path: Path, kind: Any, key: Sequence[str] = ("id",)) -> list[Any]:
    """Rows of a JSONL file, of a kind, each key once. Raises UserError for a file that is not so."""
    with made_again():
        rows = held(list[kind], files.read_jsonl(path), str(path))
    seen = set()
    for number, row in enumerate(rows, start=1):
        if (name := tuple(row[part] for part in key)) in seen:
            raise UserError(f"{path}:{number} has {' '.join(name)} a second time: {AGAIN}")
        seen.add(name)
    return rows


def require_order(path: Path, found: Sequence[str], expected: Sequence[str], other: Path) -> None:
    """Raises UserError where two files that belong together do not have the same ids in the same order."""
    if list(found) != list(expected):
        number = next((n for n, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
        where = f"row {1 + (min(len(found), len(expected)) if number is None else number)}"
        raise UserError(f"{path} does not have the prompts of {other} in their order (from {where} on): {AGAIN}")


@contextmanager
def as_written(*paths: Path) -> Iterator[None]:
    """Turn what values that are not as written raise, while they are read out of some files, into a line naming these.

    For what reads values alone: whatever else stood inside would have its own mistakes laid to the files' charge. The
    line's cause is kept, for whoever looks for such a mistake.
    """
    try:
        yield
    except WRONG as error:
        names = ", ".join(map(str, paths))
        what = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{names}: not what this version of the project writes ({what}): {AGAIN}") from error
