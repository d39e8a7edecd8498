"""Text that this project did not write, fit to be shown: titles, names, prompts, what a model or a server said."""

import re

LINE = 500  # characters of an error, a note, a cell's text
TITLE = 80  # of a title in a figure or a card
NAME = 40  # of a name beside an axis
MARKDOWN = re.compile(r"[\\`*\[\]|~$<>]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def plain(text: str, limit: int = LINE) -> str:
    """One printable line: escapes for what moves a cursor or cannot be seen, the middle left out of a long text."""
    # Both ends are kept: what is wrong stands at the beginning of an error, what to do at its end.
    if not text.isprintable():
        text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    if len(text) <= limit:
        return text
    head = 2 * (limit - 1) // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def mathless(text: str, limit: int = TITLE) -> str:
    """The same for matplotlib, which would read what stands between two dollars as a formula."""
    return plain(text, limit).replace("$", r"\$")


def markdown(text: str, limit: int = TITLE) -> str:
    """The same inside a line or a table of Markdown: no style, link, HTML, formula or column of its own."""
    # An underscore between letters or digits has no meaning, and is usual in names.
    return MARKDOWN.sub(lambda found: ENTITIES.get(found[0], f"\\{found[0]}"), plain(text, limit))


def code(text: str, limit: int = LINE) -> str:
    """The same as code in a table of Markdown, where a bar ends the cell in code too."""
    line = plain(text, limit).replace("|", r"\|")
    runs = re.findall("`+", line)
    fence, space = "`" * (1 + max(map(len, runs), default=0)), " " if runs else ""
    return f"{fence}{space}{line}{space}{fence}"
