"""Unfinished work goes on only where all that makes it is the same."""

from dataclasses import dataclass, replace

import pytest
import torch

from pipeline.artifacts.resume import key, unfinished
from pipeline.errors import UserError
from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, AffineEdit, DirectionalAblation
from pipeline.prompts.prompt import Prompt


@dataclass
class Settings:
    dtype: str = "float32"
    limit: float = 0.5


DIRECTION = Direction(torch.tensor([1.0, 2.0]), 3, -1)
EDIT = AffineEdit(DIRECTION, torch.tensor([0.5, 0.25]), 1.0)
PROMPT = Prompt("a", "how?", "", "", "")


def test_anything_else_makes_another_name(tmp_path):
    other = replace(DIRECTION, vector=torch.tensor([1.0, 2.5]))
    kinds = [
        [Settings()],
        [Settings(dtype="bfloat16")],
        [Settings(limit=0.25)],
        [None],
        [DirectionalAblation(DIRECTION)],
        [DirectionalAblation(other)],
        [DirectionalAblation(replace(DIRECTION, layer=4))],
        [ActivationAddition(DIRECTION, 1.0)],
        [ActivationAddition(DIRECTION, 2.0)],
        [EDIT],
        [replace(EDIT, target=0.0)],
        [replace(EDIT, readout=torch.tensor([0.5, 0.5]))],
        [[PROMPT]],
        [[PROMPT, PROMPT]],
        [[replace(PROMPT, instruction="why?")]],
        [{"ablation": None}],
        [{"addition": None}],
    ]
    keys = [key("model", *made_by) for made_by in kinds]
    assert len(set(keys)) == len(kinds)
    assert keys == [key("model", *made_by) for made_by in kinds]
    assert key("other model", None) != key("model", None)


def test_a_file_counts_by_its_bytes(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("same")
    second.write_text("same")
    assert key(first) == key(second) != key("same")
    before = key(first)
    first.write_text("changed")
    assert key(first) != before
    first.unlink()
    with pytest.raises(UserError, match="first"):
        key(first)


def test_half_a_surrogate_pair_has_a_name():
    assert key("\ud800") != key("\ud801")


def test_the_same_work_goes_on_and_another_begins_anew(tmp_path):
    def steps(*made_by):
        return unfinished(lambda name: tmp_path / name, "loss", *made_by)

    steps("model", 1).keep({"first": 2.5})
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["loss"]
    assert steps("model", 1)("first", lambda: pytest.fail("computed again")) == 2.5
    assert steps("model", 2).values == {}
