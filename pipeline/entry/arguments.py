"""Command lines: help as the module's own docstring has it, and mistakes on one line as of any other kind."""

import argparse
import sys
from typing import Any, NoReturn

from pipeline.display import plain


class Parser(argparse.ArgumentParser):
    """An argument parser of one command, `python -m ...`, whose mistakes end with status 1."""

    def __init__(self, description: str | None, **options: Any):
        super().__init__(
            **{"prog": _command(), "formatter_class": argparse.RawDescriptionHelpFormatter, **options},
            description=description,
        )

    def error(self, message: str) -> NoReturn:
        """End the process with one line."""
        sys.exit(f"error: {plain(message)}: see {self.prog} --help")


def _command() -> str:
    """How the process was started, where it was as a module."""
    if " " in sys.argv[0]:  # a verb, as the door has put it
        return sys.argv[0]
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else sys.argv[0]
