"""The table of faults calls wrong what is wrong: other bytes of a stage that ends well, tracebacks, silence."""

import random
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


@pytest.mark.parametrize("fault", [kinds.kill, kinds.two_at_once])
def test_a_stage_that_ends_before_it_can_be_killed_was_not_tried(fault, monkeypatch):
    """It is killed sooner, and what it left when it ended is looked at."""
    tried = world()
    tried.seconds, tried.clear = lambda stage: 1.0, lambda stage: None
    tried.start = lambda stage: SimpleNamespace(send_signal=lambda signal: None)
    waited: list[float] = []
    monkeypatch.setattr(kinds.time, "sleep", waited.append)
    monkeypatch.setattr(kinds, "ended", lambda process: Ended(-9 if len(waited) > 2 else 0, ""))
    assert "killed" in fault(tried, "seal", random.Random(0))
    assert sorted(waited, reverse=True) == waited != []
    monkeypatch.setattr(kinds, "ended", lambda process: GOOD)
    with pytest.raises(kinds.Wrong, match="not run"):
        fault(tried, "seal", random.Random(0))
    monkeypatch.setattr(kinds, "ended", lambda process: Ended(1, "Traceback (most recent call last):"))
    with pytest.raises(kinds.Wrong, match="Traceback"):
        fault(tried, "seal", random.Random(0))
    monkeypatch.setattr(kinds, "ended", lambda process: GOOD)
    tried.differing = lambda: ["seal.json"]
    with pytest.raises(kinds.Wrong, match="ended well with 1 other results"):
        fault(tried, "seal", random.Random(0))


def test_a_stage_that_fails_by_itself_was_not_killed(monkeypatch):
    tried = world()
    tried.seconds, tried.clear = lambda stage: 0.0, lambda stage: None
    tried.start = lambda stage: SimpleNamespace(send_signal=lambda signal: None)
    monkeypatch.setattr(kinds, "ended", lambda process: REFUSED)
    with pytest.raises(kinds.Wrong, match="no space left"):
        kinds.kill(tried, "seal", random.Random(0))
    with pytest.raises(kinds.Wrong, match="no space left"):
        kinds.two_at_once(tried, "seal", random.Random(0))


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
