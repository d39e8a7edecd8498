"""The benchmark: its reference algorithm and its sweep agree, and its table is made; no time is held to anything."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from pipeline.bench import caching, reference, selection
from pipeline.bench.material import Material
from pipeline.bench.timing import Row, in_turn, median_ratio
from pipeline.config.compose import compose
from pipeline.config.schema import Config
from pipeline.maths.directions import Direction
from pipeline.model import chat, scoring
from tests.conftest import INSTRUCTIONS

TOKENS = torch.arange(0, 250, 2)


@pytest.fixture
def material(model):
    config = OmegaConf.to_object(compose("tiny", "smoke", []))
    assert isinstance(config, Config)
    prompts = chat.encode(model.tokenizer, INSTRUCTIONS)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 32, generator=generator, dtype=torch.float64)
    found = {(-1, layer): Direction(3 * vector, layer, -1) for layer, vector in enumerate(vectors)}
    return Material(config, None, model, prompts[:2], prompts[2:], TOKENS, found, 4, 60)


def test_reference_and_sweep_agree(material):
    validation = material.validation()
    baseline = reference.full_logits(material.model, material.harmless)
    for direction in material.candidates.values():
        plain = reference.score(
            material.model, direction, material.harmful, material.harmless, material.refusal_tokens, baseline
        )
        ours = scoring.score_direction(material.model, direction, validation, 1.0, 60)
        ours = ours.candidate(direction.position, direction.layer)
        assert (plain.bypass, plain.induce, plain.kl) == pytest.approx((ours.bypass, ours.induce, ours.kl), abs=1e-3)
        assert abs(plain.bypass - float(validation.harmful_metric.mean())) > 1e-2


def test_every_section_gives_rows_that_json_holds(material):
    rows = [*selection.rows(material, 2, 1, whole=True), *caching.rows(material, 1, memory=False)]
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert json.loads(json.dumps([row.record() for row in rows]))[0]["value"] > 0
    by_name = {row.name: row for row in rows}
    assert by_name["largest score difference, torch.float32"].value < 1e-3
    assert by_name["prompts that racing measures"].value == 1, "few prompts stop nothing"
    assert sum(row.bound is not None for row in rows) == 5


def test_flops_are_those_of_the_matrices_that_run(material):
    validation = material.validation()
    late, early = (selection._flops(material, material.candidates[-1, layer], validation) for layer in (2, 0))
    assert 0 < late < early, "an addition at a later layer runs fewer blocks"


def test_rows_are_far_off_at_twice_their_bound_and_tasks_take_turns():
    assert not Row("s", "n", 1.9, "", 1.0).far_off
    assert Row("s", "n", 2.1, "", 1.0).far_off
    assert Row("s", "n", 0.2, "", 0.6, at_least=True).far_off
    assert not Row("s", "n", 9.0, "").far_off
    order = []
    seconds = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert median_ratio([2.0, 8.0, 3.0], [1.0, 2.0, 3.0]) == 2.0
