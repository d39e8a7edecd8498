"""Write docs/what-is-refused.md from the cases: python -m tests.helpers.refused"""

import importlib

from tests.conftest import ROOT  # first, since it installs what checks shapes

from tests.helpers.cases import Cases  # isort: skip

FOLDER = ROOT / "tests/refused"
PAGE = ROOT / "docs/what-is-refused.md"
HEAD = """# What is refused, and what is read

<!-- made: refused -->
Inputs that are wrong, damaged or hostile, and what a user sees. Each row is a test: `python -m pytest tests -k cases`
builds it on the spot from a random tiny model. *Refused* means one line that begins `error:`, exit status 1, nothing
measured, nothing half written. Written by `python -m tests.helpers.refused`.
"""


def every() -> list[Cases]:
    """The cases of every module `test_cases_*`, in the order of their names."""
    names = sorted(path.stem for path in FOLDER.glob("test_cases_*.py"))
    return [importlib.import_module(f"tests.refused.{name}").cases for name in names]


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for cases in every():
        rows = "".join(f"| {row.name} | {_cell(row.given)} | {_cell(row.sees)} |\n" for row in cases.rows)
        parts.append(f"\n## {cases.kind}\n\n| case | given | a user sees |\n|---|---|---|\n{rows}")
    return "".join([*parts, "<!-- end -->\n"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
