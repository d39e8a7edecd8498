"""Printed tables whose text is shown as it is, whoever wrote it."""

from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.display import plain

CELL = 1000  # characters


class Shown(Table):
    """A table that shows its text as it is: rich would take `[name]` for a style, and lets escapes through."""

    def add_row(self, *cells: Any, **how: Any) -> None:
        """A row, each cell of it one printable text of bounded length."""
        super().add_row(*(words(cell) if isinstance(cell, str) else cell for cell in cells), **how)


def words(*lines: str, style: str = "") -> Text:
    """Lines as they are shown in a table, each printable and of bounded length."""
    return Text("\n".join(plain(line, CELL) for line in lines), style=style)


def caption(*lines: str) -> Text:
    """The lines below a table."""
    return words(*lines, style="table.caption")


def table(title: str, *columns: str) -> Shown:
    """An empty table: words to the left, numbers to the right."""
    made = Shown(title=words(title, style="table.title"), title_justify="left", caption_justify="left")
    for index, name in enumerate(columns):
        made.add_column(words(name), justify="left" if index == 0 else "right", overflow="fold")
    return made
