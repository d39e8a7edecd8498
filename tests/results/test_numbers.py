"""Every number of README.md and docs/ comes from a committed file, and another number in its place does not."""

import random
import re
import shutil
from pathlib import Path

import pytest

from pipeline.report import numbers, pages
from tests.conftest import ROOT
from tests.helpers import refused

COPIED = ("conf", "pipeline", "docs", "README.md", "pyproject.toml")
COPIED += ("outputs/eval", "outputs/families", "outputs/seeds", "outputs/speed")
PAGES = numbers.written(ROOT)
REFUSED = refused.PAGE.relative_to(ROOT)
N_CHANGED = 5  # numbers of a page that are changed, one at a time


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pages")
    for name in (name for name in COPIED if (ROOT / name).exists()):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        else:
            shutil.copy(ROOT / name, target)
    return root


def holds(root: Path, page: Path) -> bool:
    """The page is what the results make, and a hand's numbers are traced; what tests write is what they write."""
    text = (root / page).read_text()
    made = refused.page() if page == REFUSED else pages.renewed(page, root)
    return text == made and not any(str(page) in line for line in numbers.problems(root))


def typed(text: str) -> list[tuple[int, int]]:
    """Where numbers stand in a page as it is, made parts included; not in targets of links or marks of lists."""
    hidden = [match.span() for match in re.finditer(r"\]\([^)\s]*\)|(?m:^ *\d+\. )|<!--.*?-->", text)]
    spans = [match.span() for match in numbers.NUMBER.finditer(text)]
    return [(start, end) for start, end in spans if not any(a <= start < b for a, b in hidden)]


def another(number: str) -> str:
    """The number with its last digit changed, or another word."""
    if number[-1].isdigit():
        return number[:-1] + str((int(number[-1]) + 1) % 10)
    return "eleven" if number != "eleven" else "twelve"


def test_every_number_is_traced():
    assert pages.problems(ROOT) == []
    assert {page.name for page in PAGES} >= {"README.md", "method.md", "results.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_changed_or_an_added_number_is_named(copy, page):
    text = (ROOT / page).read_text()
    places = typed(text)
    assert holds(copy, page)
    try:
        for start, end in random.Random(0).sample(places, min(N_CHANGED, len(places))):
            (copy / page).write_text(text[:start] + another(text[start:end]) + text[end:])
            assert not holds(copy, page), text[max(0, start - 60) : end + 20]
        for added in ("\nOn one model it was 17.\n", "\nSeventeen of them.\n", "\n```sh\nmake 23 `0.35`\n```\n"):
            (copy / page).write_text(text + added)
            assert not holds(copy, page), added
    finally:
        (copy / page).write_text(text)


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("conf/profile/standard.yaml", "max_new_tokens: 64", "max_new_tokens: 65", "says '64 tokens in `standard`'"),
        ("pipeline/maths/statistics.py", "LEVEL = 0.95", "LEVEL = 0.9", "LEVEL is 0.9"),
        ("pipeline/maths/statistics.py", "LEVEL = 0.95", "OTHER = 0.95", "statistics.py LEVEL is not there"),
        ("docs/numbers.csv", "Python 3.11", "Python 3.12", "'Python 3.12' stands 0 times in README.md"),
        ("docs/numbers.csv", "README.md,Python", "docs/none.md,Python", "there is no page docs/none.md"),
        ("docs/numbers.csv", "README.md,Python 3.11,pyproject.toml project.requires-python\n", "", "traced by 0 rows"),
        ("docs/numbers.csv", "README.md,Python", "README.md,3.11,name: again\nREADME.md,Python", "traced by 2 rows"),
        ("docs/numbers.csv", "README.md,Python", "README.md,Limits,name: none\nREADME.md,Python", "has no number"),
        ("docs/numbers.csv", "example: of a size", "example: ", "its source says nothing"),
        ("docs/numbers.csv", "example: of a size", "made up", "'made' is no source"),
    ],
)
def test_a_row_that_does_not_hold_is_named(copy, file, before, after, said):
    text = (copy / file).read_text()
    assert before in text
    try:
        (copy / file).write_text(text.replace(before, after, 1))
        assert any(said in line for line in numbers.problems(copy))
    finally:
        (copy / file).write_text(text)


@pytest.mark.parametrize(
    ("value", "page", "holds"),
    [
        (0.95, "95 %", True),
        (0.945, "95 %", False),
        (0.001, "1e-3", True),
        (0.0, "0", True),
        (0.04, "0", True),
        (4096, "4,096", True),
        (4096, "4,097", False),
        (0.5, "half", True),
        (["a", "b", "c"], "three", True),
        (["a", "b", "c"], "four", False),
        ("Qwen2.5-Coder-0.5B", "0.5", True),
        ("Qwen2.5-Coder-0.5B", "1.5", False),
    ],
)
def test_a_number_is_printed_at_its_precision(value, page, holds):
    number = numbers.NUMBER.search(page)
    assert number
    assert numbers._is_printed(value, number, page[number.end() :]) == holds
