"""The table of speed: ratios that `python -m pipeline bench --keep` measured on a machine that it names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.layout import KEPT_BENCH
from pipeline.disk.files import read_object
from pipeline.disk.shape import as_written
from pipeline.report.markdown import table
from pipeline.report.sentences.words import listed, paragraph

NONE = "No benchmark is committed: `python -m pipeline bench --keep` measures and writes one.\n"


def speed(root: Path) -> str:
    """A column for each committed benchmark, a row for each ratio, with its bound; in words where there is none."""
    kept = {path: read_object(path) for path in sorted((root / KEPT_BENCH).glob("*.json"))}
    if not kept:
        return NONE
    with as_written(*kept):
        columns = [f"{record['model']}, {record['on']}" for record in kept.values()]
        machines = sorted({_machine(record) for record in kept.values()})
        return paragraph([f"Measured on {listed(machines)}."]) + "\n" + table(("ratio", *columns, "bound"), _rows(kept))


def _machine(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    return f"{machine['processor']}, {machine['threads']} threads, medians of {record['repeats']} rounds"


def _rows(kept: Mapping[Path, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    found = [{(row["section"], row["name"]): row for row in record["rows"]} for record in kept.values()]
    for place in dict.fromkeys(key for rows in found for key in rows):
        cells = [f"{rows[place]['value']:.3g} {rows[place]['unit']}".strip() if place in rows else "" for rows in found]
        one = next(rows[place] for rows in found if place in rows)
        bound = "" if one["bound"] is None else f"{'at least' if one['at_least'] else 'at most'} {one['bound']:.3g}"
        yield f"{place[0]}: {place[1]}", *cells, bound
