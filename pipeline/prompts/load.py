"""Reading instructions from JSONL, JSON, CSV, TXT and PyRIT's prompt files."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.data import FileSpec
from pipeline.disk import files
from pipeline.disk.plain import parse_yaml
from pipeline.errors import UserError
from pipeline.prompts.prompt import Prompt, prompt_id

Rows = Iterator[tuple[int, Any]]


def load(spec: FileSpec, path: Path) -> list[Prompt]:
    """Every prompt of one file. Raises UserError naming file and line of what cannot be used."""
    prompts = [_prompt(spec, row, line) for line, row in rows(spec, path)]
    if not prompts:
        raise UserError(f"{spec.file} holds no instruction: give it at least one")
    return prompts


def rows(spec: FileSpec, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line, row) of every row that `only` keeps; each has the column. Raises UserError naming file and line."""
    for line, row in read_rows(path, spec.file):
        row = {spec.column: row} if isinstance(row, str) else row
        if not isinstance(row, Mapping) or spec.column not in row:
            raise UserError(f"{spec.file}:{line} has no '{spec.column}'")
        if wanted(spec, row):
            yield line, row


def wanted(spec: FileSpec, row: Mapping[str, Any]) -> bool:
    """The row has the values that `only` asks for."""
    return all(str(row.get(key)) == value for key, value in spec.only.items())


def read_rows(path: Path, name: str) -> Rows:
    """(line, row) of a file called `name` to the user. Raises UserError naming file and line of what is malformed."""
    reader = READERS.get(Path(name).suffix)
    if reader is None:
        raise UserError(f"{name}: unknown kind of file: use {', '.join(READERS)}")
    return reader(read_text(path, name), name)


def _prompt(spec: FileSpec, row: Mapping[str, Any], line: int) -> Prompt:
    instruction = row[spec.column]
    if not isinstance(instruction, str) or not instruction.strip():
        raise UserError(f"{spec.file}:{line} has an empty or non-text '{spec.column}'")
    category = row.get(spec.category) if spec.category else ""
    category = ", ".join(map(str, category)) if isinstance(category, list) else str(category or "")
    instruction = instruction.strip()
    if context := str(row.get(spec.context) or "").strip() if spec.context else "":
        instruction = f"{context}\n\n---\n\n{instruction}"
    if not _is_unicode(instruction + category):
        raise UserError(f"{spec.file}:{line} holds half of a surrogate pair, which is no text: mend it")
    return Prompt(prompt_id(instruction), instruction, category, spec.source, spec.licence)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_text(path: Path, name: str) -> str:
    """The whole file. Raises UserError when it is not there, no regular file or not UTF-8."""
    return files.read_text(path, name, "does not exist: mend its path in conf/ or on the command line")


def _jsonl(text: str, name: str) -> Rows:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, files.parse_json(content, name, line)


def _json(text: str, name: str) -> Rows:
    rows = files.parse_json(text, name)
    if not isinstance(rows, list):
        raise UserError(f"{name} is not a JSON list of rows")
    yield from enumerate(rows, start=1)


def _csv(text: str, name: str) -> Rows:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        columns = reader.fieldnames or []
        if len(set(columns)) < len(columns):
            raise UserError(f"{name}:1 names a column twice: give each a name of its own")
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{name}:{reader.line_num} has another number of fields than the header")
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{name}:{reader.line_num} is not CSV ({error})") from None


def _txt(text: str, _name: str) -> Rows:
    yield from ((line, content) for line, content in enumerate(text.split("\n"), start=1) if content.strip())


def _seeds(text: str, name: str) -> Rows:
    document = parse_yaml(text, name)
    seeds = document.get("seeds") if isinstance(document, Mapping) else None
    if not isinstance(seeds, list):
        raise UserError(f"{name} is not a YAML file with seeds: list them under `seeds`")
    yield from enumerate(seeds, start=1)


READERS: dict[str, Callable[[str, str], Rows]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".txt": _txt,
    ".prompt": _seeds,
}
