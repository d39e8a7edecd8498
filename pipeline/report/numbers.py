"""Numbers that a hand wrote into a page: a row of docs/numbers.csv says where each comes from, and is held against it.

A number is a run of digits that no letter stands before, or a word of NUMBER_WORDS, in prose, tables and code alike.
Not looked at are made parts (`pages`), the targets of links, and the marks of numbered lists.

`words` of a row stand once on its page; its `source` is one of

- a file with a key or a name: `conf/profile/quick.yaml generate.max_new_tokens`, `pipeline/maths/statistics.py LEVEL`,
  `outputs/golden/golden.json verdict`: the words have one number, which is what the file gives, as it is printed;
- `cited: WORK, where in it`, `definition: why`, `example: of what`, `name: whose`: nothing of ours that could change.
"""

import ast
import csv
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, cast

from pipeline.disk.files import parse_json, read_text
from pipeline.disk.plain import parse_yaml
from pipeline.errors import UserError

LEDGER = Path("docs/numbers.csv")
OTHER_SOURCES = ("cited", "definition", "example", "name")
SMALL = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS: Mapping[str, float] = {
    **{word: value for value, word in enumerate(f"{SMALL} nineteen".split(), start=2)},
    **{word: 10 * value for value, word in enumerate(TENS.split(), start=2)},
    **{"hundred": 100, "thousand": 1000, "million": 1e6, "twice": 2, "half": 1 / 2, "quarter": 1 / 4},
    **{"fifth": 1 / 5, "tenth": 1 / 10},
}
NUMBER = re.compile(rf"(?i)(?<![\w.])\d+(?:[.,]\d+)*(?:e[-+]?\d+)?|\b(?:{'|'.join(NUMBER_WORDS)})s?\b")
NOT_PROSE = re.compile(r"(?s)<!-- made: \w+ -->\n.*?<!-- end -->\n|<!--.*?-->|(?<=\])\([^)\s]*\)|(?m:^ *\d+\.(?= ))")


@dataclass(frozen=True)
class Row:
    """A line of the ledger."""

    line: int
    page: Path
    words: str
    source: str


def problems(root: Path = Path()) -> list[str]:
    """A line for each number that no row traces, and for each row that does not hold."""

    @cache
    def read(name: str) -> Any:
        return _parsed(root / name)

    pages = {page: _prose(read_text(root / page)) for page in written(root)}
    rows = list(_rows(root)) if pages or (root / LEDGER).exists() else []
    found = [f"{row.line}: there is no page {row.page}" for row in rows if row.page not in pages]
    for page, text in pages.items():
        own = [row for row in rows if row.page == page]
        found += [f"{row.line}: {wrong}" for row in own if (wrong := _wrong(row, text, read))]
        places = [_place(row, text) for row in own]
        for number in NUMBER.finditer(text):
            if (n := sum(start <= number.start() < end for start, end in places)) != 1:
                around = text[max(0, number.start() - 40) : number.end() + 20]
                found.append(f"'{number[0]}' in '{around}' of {page} is traced by {n} rows, not by one")
    return [f"{LEDGER}: {line}" if line[:1] == "'" else f"{LEDGER}:{line}" for line in found]


def written(root: Path) -> list[Path]:
    """README.md and every page of docs/, as far as they are there: a project made by an installed copy has none."""
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return [page.relative_to(root) for page in pages if page.exists()]


def _rows(root: Path) -> Iterator[Row]:
    lines = csv.DictReader(StringIO(read_text(root / LEDGER, missing="is missing")))
    for number, line in enumerate(lines, start=2):
        if line.keys() != {"page", "words", "source"} or not all(line.values()):
            raise UserError(f"{LEDGER}:{number}: a row is a page, words of it and their source")
        yield Row(number, Path(line["page"]), _plain(line["words"]), line["source"])


def _prose(text: str) -> str:
    return _plain(NOT_PROSE.sub(" ", text))


def _plain(text: str) -> str:
    return " ".join(text.split())


def _place(row: Row, text: str) -> tuple[int, int]:
    start = text.find(row.words)
    return start, start + len(row.words)


def _wrong(row: Row, text: str, read: Callable[[str], Any]) -> str:
    """Why a row does not hold; empty where it does."""
    if (n := text.count(row.words)) != 1:
        return f"'{row.words}' stands {n} times in {row.page}, not once"
    start, end = _place(row, text)
    numbers = [number for number in NUMBER.finditer(text) if start <= number.start() < end]
    kind, _, why = row.source.partition(": ")
    if kind in OTHER_SOURCES:
        return "" if numbers and why else f"'{row.words}' has no number, or its source says nothing"
    if len(numbers) != 1:
        return f"'{row.words}' has {len(numbers)} numbers, and {row.source} is one"
    try:
        value = _value(row.source, read)
    except UserError as error:
        return str(error)
    if any(_is_printed(value, number, text[number.end() :]) for number in numbers):
        return ""
    return f"{row.page} says '{row.words}', and {row.source} is {value}"


def _value(source: str, read: Callable[[str], Any]) -> Any:
    """What a file gives for a key, or a module for a name."""
    name, _, key = source.partition(" ")
    value = read(name)
    for step in key.split("."):
        try:
            value = value[int(step) if isinstance(value, list | tuple) else step]
        except (KeyError, IndexError, TypeError, ValueError):
            raise UserError(f"{source} is not there") from None
    return value


def _parsed(path: Path) -> Any:
    if path.suffix not in READERS:
        raise UserError(
            f"'{path.name}' is no source: a file of {', '.join(READERS)}, or one of {', '.join(OTHER_SOURCES)}"
        )
    return READERS[path.suffix](read_text(path, missing="is missing"), str(path))


def _literals(text: str) -> Mapping[str, Any]:
    """What a module gives names at its top level, of plain literals; without running it."""
    found: dict[str, Any] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    with suppress(ValueError):
                        found[target.id] = ast.literal_eval(node.value)
    return found


READERS: Mapping[str, Callable[[str, str], Any]] = {
    ".py": lambda text, name: _literals(text),
    ".toml": lambda text, name: tomllib.loads(text),
    ".json": parse_json,
    ".yaml": parse_yaml,
}


def _is_printed(value: Any, number: re.Match[str], after: str) -> bool:
    """Whether a number of a page is this value at its precision; of a list, its length; of a text, one in it."""
    if isinstance(value, str):
        return number[0] in NUMBER.findall(value)
    if isinstance(value, list | tuple | dict | set):
        return _is_printed(len(cast(Sized, value)), number, after)
    shown = number[0].lower()
    if shown.removesuffix("s") in NUMBER_WORDS:
        return value == NUMBER_WORDS[shown.removesuffix("s")]
    digits = shown.replace(",", "")
    scale = 100 if after.lstrip().startswith("%") else 1
    decimals = len(digits.partition(".")[2]) if "e" not in digits else None
    return f"{scale * value:.{decimals}f}" == digits if decimals is not None else float(digits) == value
