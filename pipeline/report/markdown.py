"""Tables of Markdown, and their cells."""

from collections.abc import Iterable, Sequence

from pipeline.maths.statistics import Estimate
from pipeline.report.tables import wording

Row = Sequence[str]


def table(columns: Row, rows: Iterable[Row]) -> str:
    """A table, bars in cells escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def rate(row: Estimate | None) -> str:
    """Share and interval, or nothing."""
    return with_interval(row, "{:.0%}") if row else ""


def with_interval(row: Estimate, form: str) -> str:
    """Value and interval; why there is no value."""
    return f"{wording.value(row, form)} {wording.interval(row, form)}" if row.value is not None else f"({row.note})"
