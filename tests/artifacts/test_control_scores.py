"""What the direction and its controls do: written, read, and refused where it is of other prompts or directions."""

import copy
import math
from dataclasses import asdict

import pytest

from pipeline.artifacts import control_scores
from pipeline.disk import files
from pipeline.errors import UserError
from pipeline.maths.held_out import ScoredDirection

FACTS = {name: ScoredDirection(name.partition("_")[0], 0.5, 3.0, 0.01) for name in ("direction", "random_0")}
ROWS = {"bypass": [1.0, 2.0], "subtraction": [3.0, 4.0], "induce": [5.0], "kl": [0.1]}


def test_scores_survive_a_file_and_are_those_of_the_directions_on_the_prompts_that_it_names(tmp_path):
    path = tmp_path / "scores.json"
    control_scores.write(path, FACTS, dict.fromkeys(FACTS, ROWS), ([0.5, 0.25], [-1.0]))
    found = control_scores.read(path)
    assert found["directions"] == {name: asdict(row) for name, row in FACTS.items()}
    assert found["scores"] == dict.fromkeys(FACTS, ROWS)
    assert (found["harmful_metric"], found["harmless_metric"]) == ([0.5, 0.25], [-1.0])
    cases = {
        "of other prompts": lambda record: record["scores"]["random_0"]["kl"].append(1.0),
        "other directions than": lambda record: record["scores"].pop("direction"),
        "subtraction": lambda record: record["scores"]["random_0"].pop("subtraction"),
        "variance_share": lambda record: record["directions"]["direction"].pop("variance_share"),
    }
    for said, damage in cases.items():
        record = copy.deepcopy(found)
        damage(record)
        files.write_json(path, record)
        with pytest.raises(UserError, match=rf"scores\.json.*{said}.*`dvc repro`"):
            control_scores.read(path)


def test_without_a_direction_nothing_was_scored(tmp_path):
    path = tmp_path / "scores.json"
    control_scores.write(path, {}, {})
    assert not any(control_scores.read(path).values())


def test_a_score_that_is_not_finite_is_named():
    control_scores.require_finite({"random_0": ROWS})
    with pytest.raises(UserError, match=r"random_1 has 1 scores on test prompts that are not finite: use a wider"):
        control_scores.require_finite({"random_0": ROWS, "random_1": {**ROWS, "kl": [math.nan]}})
