"""Judges by the name that conf/ and every table use."""

from collections.abc import Callable

from pipeline.judges.text import markers, substring
from pipeline.results.verdict import Verdict

JUDGES: dict[str, Callable[[str, str], Verdict]] = {"substring": substring.judge, "markers": markers.judge}
