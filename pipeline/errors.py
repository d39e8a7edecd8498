"""The one exception whose message is meant for the user."""

LONGEST = 2000  # characters of a message


class UserError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    Entry points print it without a traceback and exit with status 1. The line is printable whatever was read into it.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Text as one line: what a terminal would not show as it stands is escaped, and what is too long is cut."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:LONGEST])
    return line if len(text) <= LONGEST else f"{line}..."


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type's name."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
