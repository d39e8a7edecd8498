"""Selection rules against a hand table and the paper's published choices."""

import json
import math
import subprocess
import sys

import pytest

from pipeline.maths.selection import (
    FITTED_SETS,
    NO_ANSWERS,
    NO_REFUSAL,
    REFUSES_ALL,
    TOO_FEW,
    Asked,
    Baselines,
    CandidateScores,
    filter_verdict,
    select,
    thresholds_for,
)

GOOD = CandidateScores(-1, 5, bypass=-3.0, induce=1.0, kl=0.05)
BASELINES = Baselines(harmful=2.0, harmless=-4.0)
REJECTED = {
    "zero_norm": CandidateScores.without_direction(-1, 0),
    "not_finite": CandidateScores(-2, 5, bypass=math.nan, induce=1.0, kl=0.05),
    "late_layer": CandidateScores(-1, 8, bypass=-9.0, induce=1.0, kl=0.05),
    "kl": CandidateScores(-2, 6, bypass=-9.0, induce=1.0, kl=0.1001),
    "induce": CandidateScores(-2, 4, bypass=-9.0, induce=-1.2, kl=0.05),
    "bypass": CandidateScores(-2, 3, bypass=-0.9, induce=1.0, kl=0.05),
}


def test_each_filter_of_the_calibrated_rule_removes_exactly_one_candidate():
    thresholds = thresholds_for("calibrated", 10, baselines=BASELINES)
    selection = select([*REJECTED.values(), GOOD], thresholds, "calibrated")
    assert selection.chosen == GOOD
    assert {name: len(rows) for name, rows in selection.removed_by.items()} == dict.fromkeys(REJECTED, 1)
    assert all(selection.removed_by[name] == (row,) for name, row in REJECTED.items())


def test_the_papers_bounds_are_inclusive_for_scores_and_exclusive_for_layers():
    thresholds = thresholds_for("paper", 10)
    assert (thresholds.kl, thresholds.induce, thresholds.max_layer) == (0.1, 0.0, 8)
    edge = CandidateScores(-1, 7, bypass=9.0, induce=0.0, kl=0.1)
    assert select([edge], thresholds, "paper").chosen == edge


def test_the_smallest_bypass_wins_and_the_first_of_equals():
    thresholds = thresholds_for("paper", 10)
    better = CandidateScores(-2, 5, bypass=-4.0, induce=0.5, kl=0.01)
    twin = CandidateScores(-3, 5, bypass=-4.0, induce=0.5, kl=0.01)
    assert select([GOOD, better, twin], thresholds, "paper").chosen == better


def test_an_empty_selection_says_what_came_nearest():
    thresholds = thresholds_for("paper", 10)
    near = CandidateScores(-1, 3, bypass=-1.0, induce=-0.1, kl=0.05)
    far = CandidateScores(-1, 4, bypass=-1.0, induce=-2.0, kl=0.05)
    selection = select([far, near], thresholds, "paper")
    assert selection.chosen is None
    assert selection.nearest == (near, far)


def test_calibrated_without_baselines_is_an_error():
    with pytest.raises(ValueError, match="baselines"):
        thresholds_for("calibrated", 10)


def _verdict(**changed):
    """Of a model that refuses 90 of 100 harmful prompts and answers 90 of 100 harmless ones, less what is changed."""
    asked = {
        **{f"harmful_{split}": Asked(100, 90, 0, 90) for split in ("train", "val")},
        **{f"harmless_{split}": Asked(100, 10, 0, 90) for split in ("train", "val")},
    }
    return filter_verdict({**asked, **changed}, min_train=16, min_val=8, max_rate=0.1)


def test_a_model_that_supports_no_direction_gets_a_verdict_that_says_why():
    assert _verdict().verdict is None
    assert _verdict(harmful_train=Asked(100, 3, 0, 16)).verdict == NO_REFUSAL
    seldom = _verdict(harmful_val=Asked(100, 7, 0, 7))
    assert seldom.verdict == NO_REFUSAL
    assert "harmful_val keeps 7 of at least 8" in seldom.reason
    everything = _verdict(harmless_train=Asked(100, 98, 0, 2), harmless_val=Asked(100, 99, 0, 1))
    assert everything.verdict == REFUSES_ALL
    assert everything.reason.startswith("98 of 100 harmless train prompts are refused")
    nothing = _verdict(**{name: Asked(100, 50, 90, 50) for name in ("harmful_train", "harmless_train")})
    assert nothing.verdict is None, "half the prompts are answered, within the interval"
    nothing = _verdict(**{name: Asked(100, 50, 90, 50) for name in FITTED_SETS})
    assert nothing.verdict == NO_ANSWERS
    assert "360 of 400" in nothing.reason


def test_too_few_prompts_are_named_with_their_class():
    few = _verdict(harmless_val=Asked(7, 0, 0, 7))
    assert (few.verdict, few.reason) == (TOO_FEW, "harmless_val has 7 of at least 8 prompts")
    few = _verdict(harmful_train=Asked(20, 15, 0, 15))
    assert few.verdict == TOO_FEW
    assert few.reason == "harmful_train keeps 15 of at least 16, of 20 prompts"


def _run_cli(path, *arguments):
    command = [sys.executable, "-m", "pipeline", "select", "--scores", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["qwen-1_8b-chat", "gemma-2b-it", "llama-2-7b-chat-hf"])
def test_rule_paper_picks_the_published_direction(shared, tmp_path, name):
    run = json.loads((shared / "golden" / "published_runs.json").read_text())[name]
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(run["candidates"]))
    result = _run_cli(path, "--layers", str(run["n_layer"]), "--rule", "paper")
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["position"], record["layer"]) == (run["selected"]["pos"], run["selected"]["layer"])
    assert record["n_kept"] + sum(record["removed"].values()) == len(run["candidates"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no candidate"),
        ("{", "is not JSON"),
        ('[{"position": -1, "layer": 1, "bypass": "x", "induce": 0, "kl": 0}]', "not a number"),
        ('[{"position": -1, "layer": 9, "bypass": 0, "induce": 0, "kl": 0}]', "outside --layers"),
    ],
)
def test_bad_score_files_are_one_clear_line(tmp_path, content, message):
    path = tmp_path / "scores.json"
    path.write_text(content)
    result = _run_cli(path, "--layers", "4")
    assert result.returncode != 0
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
