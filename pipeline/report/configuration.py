"""Every configuration value in one table: its type from the schema, its default and its meaning from conf/."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pipeline.config.schema import Config
from pipeline.disk.files import read_text

# File of conf/, and the key that its values stand under. The last is a profile, which can set any value.
FILES = {
    "config.yaml": "",
    "engine/default.yaml": "engine",
    "select/calibrated.yaml": "select",
    "suffix/none.yaml": "suffix",
    "profile/standard.yaml": "",
}
LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w@/-]+):(?: (?P<value>.*?))??(?: *# (?P<meaning>.*))?$")
NOT_VALUES = ("defaults", "hydra")


@dataclass(frozen=True)
class Value:
    """One value of the configuration as conf/ has it."""

    key: str
    default: str
    meaning: str


def values(text: str, under: str = "") -> Iterator[Value]:
    """Values with their comments, by full key; a comment of a group stands with each value that has none."""
    path: list[tuple[int, str, str]] = []
    found: list[Value] = []
    for line in text.splitlines():
        if line.startswith("# ") and found and not line[2:3].isupper():  # a comment that goes on
            found[-1] = Value(found[-1].key, found[-1].default, f"{found[-1].meaning} {line[2:]}")
        match = LINE.match(line)
        if not match:
            continue
        indent = len(match["indent"])
        path = [step for step in path if step[0] < indent]
        names = [*([under] if under else []), *(step[1] for step in path), match["key"]]
        if names[0] in NOT_VALUES:
            path.append((indent, match["key"], ""))
        elif match["value"]:
            group = next((step[2] for step in reversed(path) if step[2]), "")
            found.append(Value(".".join(names), match["value"], match["meaning"] or group))
        else:
            path.append((indent, match["key"], match["meaning"] or ""))
    yield from found


def type_of(key: str) -> str:
    """The type that the schema gives a key, in words."""
    kind: Any = Config
    for name in key.split("."):
        if is_dataclass(kind):
            kind = get_type_hints(kind)[name]
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return "any"
    return _words(kind)


def _words(kind: Any) -> str:
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    if kind is Any:  # where omegaconf has no type for either
        return "text or group of values or null"
    if kind in words:
        return words[kind]
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inside))
    if origin is list:
        return f"list of {_words(inside[0])}"
    if origin is dict:
        return f"{_words(inside[1])} by name"
    return "group of values"


def tables(root: Path = Path()) -> str:
    """A table for every file of FILES."""
    parts: list[str] = []
    for name, under in FILES.items():
        rows = [
            f"| `{value.key}` | {type_of(value.key)} | `{_cell(value.default)}` | {_cell(value.meaning)} |\n"
            for value in values(read_text(root / "conf" / name), under)
        ]
        head = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n"
        parts.append(f"## conf/{name}\n\n{head}{''.join(rows)}")
    return "\n".join(parts).rstrip("\n") + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def described(root: Path = Path()) -> Mapping[str, str]:
    """Meaning by key, of every file."""
    return {
        value.key: value.meaning
        for name, under in FILES.items()
        for value in values(read_text(root / "conf" / name), under)
    }
