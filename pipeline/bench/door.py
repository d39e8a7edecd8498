"""How long a reader waits for the help of each verb, as whole processes."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from pipeline.bench.timing import Row, in_turn, median
from pipeline.config.place import PACKAGE

SECTION = "python -m pipeline VERB --help"


def rows(repeats: int) -> Iterator[Row]:
    """Seconds of each verb's help."""
    verbs = sorted(path.stem.replace("_", "-") for path in (PACKAGE / "commands").glob("[a-z]*.py"))
    for verb, seconds in in_turn({verb: partial(_help, verb) for verb in verbs}, repeats).items():
        yield Row(SECTION, verb, median(seconds), "s")


def _help(verb: str) -> None:
    subprocess.run([sys.executable, "-m", "pipeline", verb, "--help"], check=True, stdout=subprocess.DEVNULL)
