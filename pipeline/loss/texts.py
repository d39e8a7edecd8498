"""Texts whose loss is measured: documents, and instructions with a reference answer."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.data import FileSpec, TextSpec
from pipeline.errors import UserError
from pipeline.prompts.load import read_text, rows, wanted
from pipeline.prompts.prompt import Text, text_id

Open = Callable[[FileSpec], Path]
Stream = Callable[[TextSpec], Iterator[Mapping[str, Any]]]


def draw(name: str, specs: Sequence[TextSpec], n: int, seed: int, open_file: Open, stream: Stream) -> list[Text]:
    """`n` distinct texts of the files and data sets together, in a seeded order.

    Raises UserError when there are fewer, or when a file cannot be used.
    """
    pool = {text.id: text for spec in specs for text in _texts(spec, open_file, stream)}
    if len(pool) < n:
        size = "n_answers" if specs[0].answer else "n_documents"
        raise UserError(f"{name}: {n} texts asked for, {len(pool)} there: lower text.{size} or add files in conf/text/")
    salt = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    order = np.random.default_rng([seed, salt]).permutation(len(pool))
    texts = list(pool.values())
    return [texts[index] for index in order[:n]]


def _texts(spec: TextSpec, open_file: Open, stream: Stream) -> Iterator[Text]:
    if spec.repo:
        found = ((f"row {number}", row) for number, row in enumerate(stream(spec), start=1) if wanted(spec, row))
    elif spec.document:
        content = read_text(open_file(spec), spec.name)
        matches = re.finditer(spec.document, content, re.DOTALL)
        found = ((f"document {number}", {spec.column: match[1]}) for number, match in enumerate(matches, start=1))
    else:
        found = rows(spec, open_file(spec))
    for place, row in found:
        instruction = _value(spec, row, spec.column, place) if spec.answer else ""
        text = _value(spec, row, spec.answer or spec.column, place)
        if len(text) >= spec.min_characters and (instruction or not spec.answer):
            yield Text(text_id(instruction, text), instruction, text, spec.source, spec.licence)


def _value(spec: TextSpec, row: Mapping[str, Any], column: str, place: str | int) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise UserError(f"{spec.name}:{place} has no text in '{column}'")
    return value.strip()
