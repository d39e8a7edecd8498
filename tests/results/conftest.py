"""Tests of the committed numbers: skipped, with a word, where the workspace holds another run."""

import pytest

from tests.helpers.committed import require_committed


@pytest.fixture(autouse=True)
def the_committed_runs() -> None:
    require_committed()
