"""What a process finds around it: streams that may be closed, letters that may be few, a folder of any name."""

import io
import os
import sys
from pathlib import Path

from pipeline.errors import UserError

UTF8 = "set PYTHONUTF8=1, or LC_ALL to a locale of UTF-8 such as C.UTF-8"


def settle() -> None:
    """Make a process fit for any surroundings. Raises UserError for a folder whose name no library could be told."""
    open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error has it: a letter is no reason to fail
    try:
        str(Path.cwd()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the name of folder {str(Path.cwd())!a} is not in the encoding of files, {sys.getfilesystemencoding()}: "
            f"{UTF8}, or rename it"
        ) from None


def open_streams() -> None:
    """Standard streams that were closed lead nowhere from now on: the next file opened would be taken for them."""
    nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest descriptor that is free
    while nowhere <= 2:
        nowhere = os.dup(nowhere)
    os.close(nowhere)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (open to the end)
