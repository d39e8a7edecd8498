"""The page of what is refused is the cases, and the cases cover every kind that went wrong."""

import re

from tests.helpers.refused import PAGE, every, page


def test_cases_are_listed_as_they_are():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.helpers.refused"


def test_cases_are_many_and_each_says_what_a_user_sees():
    rows = [row for cases in every() for row in cases.rows]
    assert len(rows) >= 60
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.given and row.sees for row in rows)


def test_cases_cover_what_went_wrong_elsewhere(shared):
    text = (shared / "cases/README.md").read_text(encoding="utf-8")
    tables = text[text.index("## Chat templates") : text.index("## Selection, configuration")]
    wanted = set(re.findall(r"^\| ([A-Z]\d\d) \|", tables, re.MULTILINE))
    have = {row.name[:3] for cases in every() for row in cases.rows}
    assert len(wanted) > 35
    assert wanted <= have, sorted(wanted - have)
