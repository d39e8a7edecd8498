"""Tests stand where what they test stands, and share through helpers alone."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

TESTS = ROOT / "tests"
BESIDES = {"data", "faults", "helpers", "house", "planted", "refused"}  # of no one room


def imports_of_tests(text: str) -> list[str]:
    """Test files that a file of tests imports, inside of functions too."""
    nodes = list(ast.walk(ast.parse(text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.rpartition(".")[2].startswith("test_") and name.startswith("tests.")]


def test_every_folder_is_a_room_or_of_no_one_room():
    rooms = {path.name for path in (ROOT / "pipeline").iterdir() if path.is_dir()}
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= rooms | BESIDES
    assert not list(TESTS.glob("test_*.py"))


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_imports_another(path: Path):
    assert imports_of_tests(path.read_text()) == []


@pytest.mark.parametrize(
    "text", ["from tests.maths.test_maths import x", "def f():\n    from tests.maths import test_x"]
)
def test_such_an_import_is_seen(text):
    assert imports_of_tests(text)
