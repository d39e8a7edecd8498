"""Ways to damage a file: what a disk, an editor, a copy or another version of the project may leave of it.

Each takes the bytes of a healthy file and a seeded draw, and returns the damaged bytes.
"""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import yaml

Damage = Callable[[bytes, random.Random], bytes]
Row = dict[str, Any]

OTHER_TYPES = ("a word", 3, -1.5, True, None, [], {}, ["a word"], {"a": 1})


def _truncated(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(1, max(2, len(data) - 1))]


def _one_bit(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


ANY: dict[str, Damage] = {
    "empty": lambda data, draw: b"",
    "truncated": _truncated,
    "one bit": _one_bit,
    "zeros": lambda data, draw: bytes(len(data)),
    "twice": lambda data, draw: data + data,
}


def _places(value: Any, path: tuple = ()) -> list[tuple]:
    """The way to every value inside, the outermost first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, child in items for found in ((*path, key), *_places(child, (*path, key)))]


def _at(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _without_key(value: Any, draw: random.Random) -> Any:
    path = draw.choice([path for path in _places(value) if isinstance(path[-1], str)] or [()])
    if path:
        del _at(value, path[:-1])[path[-1]]
    return value


def _other_type(value: Any, draw: random.Random) -> Any:
    if path := draw.choice(_places(value) or [()]):
        old = _kind(_at(value, path))
        _at(value, path[:-1])[path[-1]] = draw.choice([new for new in OTHER_TYPES if _kind(new) is not old])
    return value


def _number(new: Callable[[float], Any]) -> Callable[[Any, random.Random], Any]:
    """One number of the value becomes another."""

    def damage(value: Any, draw: random.Random) -> Any:
        numbers = [path for path in _places(value) if type(_at(value, path)) in (int, float)]
        if numbers:
            path = draw.choice(numbers)
            _at(value, path[:-1])[path[-1]] = new(_at(value, path))
        return value

    return damage


def _extra_key(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict):
        value["format"] = 2
    return value


def _shortened(value: Any, draw: random.Random) -> Any:
    lists = [path for path in _places(value) if isinstance(_at(value, path), list) and _at(value, path)]
    if lists:
        _at(value, draw.choice(lists)).pop()
    return value


VALUES: dict[str, Callable[[Any, random.Random], Any]] = {
    "key missing": _without_key,
    "other type": _other_type,
    "NaN": _number(lambda number: float("nan")),
    "infinity": _number(lambda number: float("inf")),
    "sane number": _number(lambda number: number + 1),
    "key of another version": _extra_key,
    "list shorter": _shortened,
}


def _json(change: Callable[[Any, random.Random], Any]) -> Damage:
    def damage(data: bytes, draw: random.Random) -> bytes:
        return (json.dumps(change(json.loads(data), draw), indent=2, sort_keys=True) + "\n").encode()

    return damage


JSON: dict[str, Damage] = {
    **{name: _json(change) for name, change in VALUES.items()},
    "a list": lambda data, draw: b"[]\n",
    "an empty object": lambda data, draw: b"{}\n",
    "null": lambda data, draw: b"null\n",
    "keys in another order": lambda data, draw: json.dumps(dict(reversed(list(json.loads(data).items())))).encode(),
}


def _jsonl(change: Callable[[list[Row], random.Random], list[Any]]) -> Damage:
    def damage(data: bytes, draw: random.Random) -> bytes:
        rows = change([json.loads(line) for line in data.decode().split("\n") if line], draw)
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    return damage


def _in_one_row(change: Callable[[Any, random.Random], Any]) -> Damage:
    def damage(rows: list[Row], draw: random.Random) -> list[Any]:
        if rows:
            at = draw.randrange(len(rows))
            rows[at] = change(rows[at], draw)
        return rows

    return _jsonl(damage)


def _row_twice(rows: list[Row], draw: random.Random) -> list[Row]:
    return [*rows, draw.choice(rows)] if rows else rows


def _row_missing(rows: list[Row], draw: random.Random) -> list[Row]:
    if rows:
        del rows[draw.randrange(len(rows))]
    return rows


def _renamed(row: Row, draw: random.Random) -> Row:
    return {key: "0123456789ab" if key == "id" else value for key, value in row.items()}


JSONL: dict[str, Damage] = {
    **{name: _in_one_row(change) for name, change in VALUES.items()},
    "row twice": _jsonl(_row_twice),
    "row missing": _jsonl(_row_missing),
    "rows in another order": _jsonl(lambda rows, draw: rows[1:] + rows[:1]),
    "id renamed": _in_one_row(_renamed),
    "row is a list": _jsonl(lambda rows, draw: [*rows, ["a word"]]),
    "one row alone": _jsonl(lambda rows, draw: rows[:1]),
}


def _csv(change: Callable[[list[list[str]], random.Random], list[list[str]]]) -> Damage:
    def damage(data: bytes, draw: random.Random) -> bytes:
        cells = [line.split(",") for line in data.decode().splitlines()]
        return "".join(",".join(row) + "\n" for row in change(cells, draw)).encode()

    return damage


def _cell(new: str) -> Damage:
    def change(cells: list[list[str]], draw: random.Random) -> list[list[str]]:
        row = draw.choice(cells[1:] or cells)
        row[draw.randrange(len(row))] = new
        return cells

    return _csv(change)


def _column_missing(cells: list[list[str]], draw: random.Random) -> list[list[str]]:
    at = draw.randrange(len(cells[0]))
    return [row[:at] + row[at + 1 :] for row in cells]


CSV: dict[str, Damage] = {
    "a word": _cell("a word"),
    "cell empty": _cell(""),
    "NaN": _cell("nan"),
    "infinity": _cell("inf"),
    "sane number": _cell("1"),
    "row twice": _csv(lambda cells, draw: [*cells, cells[-1]]),
    "row missing": _csv(lambda cells, draw: cells[:-1]),
    "rows in another order": _csv(lambda cells, draw: [cells[0], *reversed(cells[1:])]),
    "header alone": _csv(lambda cells, draw: cells[:1]),
    "column missing": _csv(_column_missing),
    "column of another version": _csv(lambda cells, draw: [[*row, "format"] for row in cells]),
    "columns renamed": _csv(lambda cells, draw: [[name.upper() for name in cells[0]], *cells[1:]]),
}


def _tensors(change: Callable[[dict[str, Any], dict[str, str], random.Random], None]) -> Damage:
    """A change of {name: array} and of what the metadata says."""

    def damage(data: bytes, draw: random.Random) -> bytes:
        from safetensors.numpy import load, save

        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        facts = json.loads(header.get("__metadata__", {}).get("provenance", "{}"))
        arrays = {name: array.copy() for name, array in load(data).items()}
        change(arrays, facts, draw)
        return save(arrays, {"provenance": json.dumps(facts, sort_keys=True)})

    return damage


def _array(change: Callable[[Any, random.Random], Any]) -> Damage:
    def damage(arrays: dict[str, Any], facts: dict[str, str], draw: random.Random) -> None:
        if arrays:
            name = draw.choice(sorted(arrays))
            arrays[name] = change(arrays[name], draw)

    return _tensors(damage)


def _filled(value: float) -> Damage:
    def change(array: Any, draw: random.Random) -> Any:
        if array.dtype.kind == "f" and array.size:
            array.reshape(-1)[draw.randrange(array.size)] = value
        return array

    return _array(change)


def _renamed_tensor(arrays: dict[str, Any], facts: dict[str, str], draw: random.Random) -> None:
    if arrays:
        arrays["of_another_version"] = arrays.pop(draw.choice(sorted(arrays)))


def _fact(change: Callable[[str], str] | None) -> Damage:
    def damage(arrays: dict[str, Any], facts: dict[str, str], draw: random.Random) -> None:
        if not facts:
            return
        key = draw.choice(sorted(facts))
        if change:
            facts[key] = change(facts[key])
        else:
            del facts[key]

    return _tensors(damage)


TENSORS: dict[str, Damage] = {
    "NaN": _filled(float("nan")),
    "infinity": _filled(float("inf")),
    "sane number": _filled(1.0),
    "other dtype": _array(lambda array, draw: array.astype("float32" if array.dtype == "float64" else "float64")),
    "row missing": _array(lambda array, draw: array[:-1] if array.ndim else array),
    "rows in another order": _array(lambda array, draw: array[::-1].copy() if array.ndim else array),
    "one axis more": _array(lambda array, draw: array[None]),
    "tensor missing": _tensors(lambda arrays, facts, draw: arrays.clear()),
    "tensor renamed": _tensors(_renamed_tensor),
    "of another model": _tensors(lambda arrays, facts, draw: facts.update(model="random:0123456789abcdef")),
    "metadata of another version": _fact(lambda value: value + "x"),
    "metadata missing": _fact(None),
}


def _yaml(change: Callable[[Any, random.Random], Any]) -> Damage:
    def damage(data: bytes, draw: random.Random) -> bytes:
        return yaml.safe_dump(change(yaml.safe_load(data), draw), sort_keys=False).encode()

    return damage


YAML: dict[str, Damage] = {name: _yaml(change) for name, change in VALUES.items()}

KINDS: dict[str, dict[str, Damage]] = {
    ".json": JSON,
    ".jsonl": JSONL,
    ".csv": CSV,
    ".safetensors": TENSORS,
    ".yaml": YAML,
}


def ways(suffix: str) -> dict[str, Damage]:
    """Every way to damage a file of this kind."""
    return {**ANY, **KINDS.get(suffix, {})}
