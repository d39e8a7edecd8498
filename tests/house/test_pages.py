"""README and docs/: short where a stranger begins, and every link leads somewhere."""

import re

from pipeline.__main__ import VERBS
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500


def test_every_link_leads_somewhere():
    for page in PAGES:
        for link in LINK.findall(page.read_text()):
            path, _, anchor = link.partition("#")
            if path.startswith(("https:", "http:")):
                continue
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target.read_text()), f"{page.name}: {link}"


def test_every_page_is_reached_from_the_readme():
    seen, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        seen.add(page)
        paths = {
            (page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(page.read_text()) if ".md" in link
        }
        new |= {path for path in paths if path.exists()} - seen
    assert {page for page in PAGES if page.name != "CHANGELOG.md" and page.parent != ROOT / "outputs"} <= seen


def test_commands_that_pages_name_are_verbs():
    verbs = {verb for group in VERBS.values() for verb in group}
    for page in PAGES:
        named = set(re.findall(r"python -m pipeline ([a-z-]+)", page.read_text()))
        assert named <= verbs, f"{page.name}: {named - verbs}"
        assert not re.findall(r"python -m pipeline\.(?!stages)", page.read_text()), page.name
