"""The one exception whose message is meant for the user."""

from pipeline.display import plain


class UserError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    Entry points print it without a traceback and exit with status 1. Whatever the message was made of, as text it is
    one printable line of bounded length.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


LACKS_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "out of memory",
    "bad_alloc",
    "can't start new thread",
    "resource temporarily unavailable",
    "failed to map segment",
    "insufficient memory",
)


def lacks_memory(error: BaseException) -> bool:
    """An error of Python, torch or another library that memory, address space or threads ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(mark in text for mark in LACKS_MEMORY)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, printable and of bounded length, or its type's name."""
    lines = str(error).strip().splitlines()
    return plain(lines[0]) if lines else type(error).__name__
