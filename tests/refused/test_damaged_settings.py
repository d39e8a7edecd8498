"""Every value of a model folder's JSON files, left out or of another kind: read, or refused in one line."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.model.loading.loading import open_tokenizer
from tests.helpers.tiny import opened, tiny

FIRST = 3  # members of each list or object that are damaged: the rest of a vocabulary is alike
OTHERS: tuple[Any, ...] = (None, -1, 2**40, 0.5, True, "x", "", [], {}, ["a"], {"type": "BPE"})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a JSON value has values of its own."""
    inner = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, found in inner if len(inner) < 60 else inner[:FIRST]:
        yield (*path, key)
        yield from places(found, (*path, key))


def damaged(content: str) -> Iterator[tuple[str, str]]:
    """What was done, and the text: each value left out, then each of another kind."""
    for path in places(json.loads(content)):
        for other in ("left out", *OTHERS):
            whole = json.loads(content)
            parent = whole
            for key in path[:-1]:
                parent = parent[key]
            if other == "left out":
                del parent[path[-1]]
            else:
                parent[path[-1]] = other
            yield f"{path} {other!r}", json.dumps(whole)


def hello(folder: Path) -> None:
    open_tokenizer("tiny", folder)


def whole(folder: Path) -> None:
    model = opened(folder)
    model.encode(["hello"])


@pytest.mark.parametrize(
    ("name", "read", "every"),  # opening a model takes a quarter of a second: there not all are tried
    [
        ("tokenizer.json", hello, 1),
        ("tokenizer_config.json", hello, 1),
        ("config.json", whole, 7),
        ("generation_config.json", whole, 7),
    ],
)
def test_each_is_read_or_refused(name: str, read: Callable[[Path], None], every: int, tmp_path: Path):
    path = tiny(tmp_path) / name
    refused = []
    for what, text in list(damaged(path.read_text()))[::every]:
        path.write_text(text)
        try:
            read(tmp_path)
        except UserError:
            refused.append(what)
        except Exception as error:
            raise AssertionError(f"{name} with {what}") from error
    assert refused
