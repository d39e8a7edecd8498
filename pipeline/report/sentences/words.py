"""Words of generated sentences: shares, intervals, lists, paragraphs."""

import textwrap
from collections.abc import Iterable, Sequence

from pipeline.maths.statistics import Estimate

WIDTH = 120  # of a line of a page


def paragraph(sentences: Iterable[str]) -> str:
    """The sentences that are not empty, in lines; nothing where all are."""
    text = " ".join(filter(None, sentences))
    return f"{textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)}\n" if text else ""


def percent(value: float | None) -> str:
    """48%, or a dash."""
    return "-" if value is None else f"{value:.0%}".removeprefix("-") if round(value, 2) == 0 else f"{value:.0%}"


def interval(row: Estimate, form: str = "{:.0%}") -> str:
    """The 95 % interval in brackets, or why there is none."""
    if row.low is None or row.high is None:
        return f"({row.note or 'no interval'})"
    return f"[{form.format(row.low)}, {form.format(row.high)}]"


def with_interval(row: Estimate, form: str = "{:.0%}") -> str:
    """Value and interval, or none and why."""
    return f"none ({row.note})" if row.value is None else f"{form.format(row.value)} {interval(row, form)}"


def listed(parts: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def counted(n: int, one: str, several: str = "") -> str:
    """1 prompt, 2 prompts, no prompt."""
    return f"no {one}" if n == 0 else f"{n} {one if n == 1 else several or one + 's'}"
