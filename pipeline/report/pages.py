"""Pages whose measured parts are made of committed results: each stands between two comments, and no hand writes it."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.layout import Layout
from pipeline.disk.files import read_object, read_text
from pipeline.disk.shape import as_written
from pipeline.errors import UserError
from pipeline.report import configuration, numbers, readme
from pipeline.report.readme import Committed
from pipeline.report.sentences import beside, repeated, speed, suffix
from pipeline.report.sentences import run as sentences
from pipeline.results.metrics_file import read_metrics
from pipeline.results.repeated import place, read_repeated

SUFFIXES = {
    "suffix": Layout(readme.SHOWN.model, "quick-suffixes"),
    "published": Layout(readme.SHOWN.model, "quick-published_suffixes"),
}
SEEDS = place(readme.SHOWN.model)
PART = re.compile(r"(?s)(<!-- made: (\w+) -->\n)(.*?)(<!-- end -->\n)")


def _of_record(path: Path, make: Callable[[Mapping[str, Any]], str]) -> Callable[[Committed], str]:
    def made(committed: Committed) -> str:
        record = read_object(committed.root / path)
        with as_written(path):
            return make(record)

    return made


def _suffixes(run: Layout) -> Callable[[Committed], str]:
    def made(committed: Committed) -> str:
        path = committed.root / run.metrics
        return suffix.suffixes(read_metrics(path).suffixes if path.exists() else {})

    return made


def _seeds(committed: Committed) -> str:
    path = committed.root / SEEDS
    return repeated.repeated(read_repeated(path)) if path.exists() else suffix.NONE


MAKERS: dict[str, Callable[[Committed], str]] = {
    **readme.MAKERS,
    **{name: readme.of_run(make) for name, make in sentences.RUN.items()},
    "also": readme.of_run(lambda metrics: sentences.further(metrics, readme.FURTHER)),
    "choice": _of_record(readme.SHOWN.stability, beside.stability),
    "rounding": _of_record(readme.SHOWN.invariance, beside.invariance),
    **{name: _suffixes(run) for name, run in SUFFIXES.items()},
    "seeds": _seeds,
    "speed": lambda committed: speed.speed(committed.root),
    "configuration": lambda committed: configuration.tables(committed.root),
}
PAGES = {
    Path("README.md"): ("claim", "verdict"),
    Path("docs/results.md"): (
        *("setting", "refusal", "controls", "controlled", "scores", "nulls", "direction", "losses", "exported"),
        *("safety", "unsafe", "further", "also", "capability", "knowledge", "choice", "seeds", "estimators", "ways"),
        *("terms", "judges", "form", "rounding"),
    ),
    Path("docs/families.md"): ("families",),
    Path("docs/speed.md"): ("speed",),
    Path("docs/suffixes.md"): ("suffix", "published"),
    Path("docs/configuration.md"): ("configuration",),
}
OF_TESTS = (Path("docs/what-is-refused.md"),)  # made whole by tests/helpers/refused.py, and held by a test


def renewed(page: Path, root: Path = Path()) -> str:
    """A page with every part made again. Raises UserError for a part that nothing makes, or that is missing."""
    text = read_text(root / page)
    found = [match[2] for match in PART.finditer(text)]
    wrong = sorted({*(set(found) ^ {*PAGES.get(page, ())}), *(name for name in found if found.count(name) > 1)})
    if wrong or text.count("<!-- made:") != len(found):
        raise UserError(f"{page}: made parts come once each, between `made` and `end`: see {', '.join(wrong)}")
    committed = Committed(root)
    return PART.sub(lambda match: match[1] + MAKERS[match[2]](committed) + match[4], text)


def edited(root: Path = Path()) -> dict[Path, list[str]]:
    """Names of made parts that are not what the committed results make, by page; pages without one are left out."""
    found: dict[Path, list[str]] = {}
    for page in (page for page in numbers.written(root) if page not in OF_TESTS):
        now, made = PART.findall(read_text(root / page)), PART.findall(renewed(page, root))
        if names := [name for (_, name, old, _), (_, _, new, _) in zip(now, made, strict=True) if old != new]:
            found[page] = names
    return found


def problems(root: Path = Path()) -> list[str]:
    """A line for each part that is not what the results make, and for each number in prose that comes from nowhere."""
    parts = [
        f"{page}: part '{name}' is not what the results make: `python -m pipeline readme`"
        for page, names in edited(root).items()
        for name in names
    ]
    return [*parts, *numbers.problems(root)]
