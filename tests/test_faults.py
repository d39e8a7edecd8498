"""The table of faults calls wrong what is wrong: other bytes of a stage that ends well, tracebacks, silence."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults import kinds
from tests.faults.world import Ended

GOOD, REFUSED = Ended(0, "done"), Ended(1, "loading\nerror: no space left\n")


def world(*differing: str, found: Ended = GOOD) -> Any:
    return SimpleNamespace(differing=lambda: list(differing), run=lambda stage, **how: found)


@pytest.mark.parametrize("fault", [kinds.locale, kinds.no_home])
def test_other_bytes_of_a_stage_that_ends_well_are_wrong(fault):
    assert fault(world(), "scores", None) == "as ever"
    with pytest.raises(kinds.Wrong, match=r"ended well with 1 other results, scores\.csv"):
        fault(world("scores.csv"), "scores", None)
    with pytest.raises(kinds.Wrong, match="no space left"):
        fault(world(found=REFUSED), "scores", None)


@pytest.mark.parametrize(
    "said",
    [
        Ended(1, "Traceback (most recent call last):\nerror: x"),
        Ended(1, "error: x\nerror: y"),
        Ended(-11, "error: x"),
        Ended(None, ""),
        Ended(1, ""),
    ],
)
def test_only_one_line_and_status_1_is_a_refusal(said):
    assert REFUSED.line == "error: no space left"
    assert said.line == ""
    with pytest.raises(kinds.Wrong):
        kinds._refused(said)
