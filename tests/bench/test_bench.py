"""The benchmark: its reference algorithm and its sweep agree, and its table is made; no time is held to anything."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from pipeline.__main__ import VERBS
from pipeline.artifacts.layout import Layout
from pipeline.bench import caching, door, generation, reference, scaling, selection, stages
from pipeline.bench.material import Material, of_size, synthetic
from pipeline.bench.timing import Row, in_turn, median_ratio
from pipeline.config.compose import compose
from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.maths.directions import Direction
from pipeline.model.chat import chat
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
    return Material(config, Layout("tiny", "smoke"), model, prompts[:2], prompts[2:], TOKENS, found, 4, 60)


def test_reference_and_sweep_agree(material):
    validation = material.validation()
    baseline = reference.full_logits(material.model, material.harmless)
    for direction in material.candidates.values():
        plain = reference.score(
            material.model, direction, material.harmful, material.harmless, material.refusal_tokens, baseline
        )
        ours = selection._sweep(material, direction, list(material.candidates.values()), validation)
        assert (plain.bypass, plain.induce, plain.kl) == pytest.approx((ours.bypass, ours.induce, ours.kl), abs=1e-3)
        assert abs(plain.bypass - float(validation.harmful_metric.mean())) > 1e-2


def test_every_section_gives_rows_that_json_holds(material):
    rows = [*selection.rows(material, 2, 1, whole=True), *caching.rows(material, 1, memory=False)]
    rows += generation.rows(material, 1)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert json.loads(json.dumps([row.record() for row in rows]))[0]["value"] > 0
    by_name = {row.name: row for row in rows}
    assert by_name["largest score difference, torch.float32"].value < 1e-3
    assert by_name["answers with the very same tokens"].value == 1
    assert sum(row.bound is not None for row in rows) == 8


def test_flops_are_those_of_the_matrices_that_run(material):
    validation = material.validation()
    late, early = (selection._flops(material, [material.candidates[-1, layer]], validation) for layer in (2, 0))
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


def test_random_models_of_a_size_are_measured_and_leave_nothing_behind(tmp_path):
    config = of_size((128, 3), tmp_path)
    found = synthetic(config, 4, 5, "bfloat16")
    assert (found.model.n_layers, found.model.hf.dtype) == (3, torch.bfloat16)
    assert [layer for _, layer in found.candidates] == [0, 0, 0, 1, 1], "as far as a layer can be chosen"
    assert list(map(len, (found.harmful, found.harmless))) == [4, 4]
    shared = {tuple(prompt[:14] + prompt[-5:]) for prompt in found.prompts}
    assert len(shared) == 1 < len(set(map(tuple, found.prompts)))
    assert scaling.measure(found, 1) > 0


def test_a_point_runs_in_a_process_of_its_own():
    seconds, peak, parameters = scaling._apart(
        scaling.Point(n_prompts=2, n_candidates=2, n_layers=2, hidden=128), "float32", 1
    )
    assert 0 < seconds < 60
    assert peak > 50 * 2**20
    attention = 128 * 128 * 2 + 128 * 64 * 2 + 128 + 2 * 64
    assert parameters == 2 * (attention + 3 * 128 * 512 + 2 * 128)


def test_stages_are_those_of_the_last_run(tmp_path):
    layout = Layout("tiny", "smoke", tmp_path)
    with pytest.raises(UserError, match="make repro"):
        list(stages.rows(layout))
    layout.costs.parent.mkdir(parents=True)
    costs = [("scores", 9.0, 100.0), ("loss", 1.0, 50.0), ("scores", 2.0, 300.0)]
    rows = [dict(zip(("stage", "seconds", "memory_mib"), cost, strict=True), gpu_memory_mib=0.0) for cost in costs]
    layout.costs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {row.name: row.value for row in stages.rows(layout)}
    assert found["scores: time"] == 2
    assert found["scores: peak memory"] == 300
    assert found["all 2 stages: time"] == 3


def test_the_help_of_every_verb_is_timed(monkeypatch):
    asked = []
    monkeypatch.setattr(door, "_help", asked.append)
    rows = list(door.rows(1))
    verbs = {verb for group in VERBS.values() for verb in group}
    assert {row.name for row in rows} == set(asked) == verbs


def test_what_is_kept_is_ratios_beside_the_machine(monkeypatch, tmp_path):
    from pipeline.bench import run
    from pipeline.commands import bench

    rows = [Row("s", "seconds", 2.0, "s"), Row("s", "one / other", 0.5, "of the time", 1.0)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "measured", lambda *_: ("float32-cpu", rows))
    for arguments, kept in ((["--model", "tiny"], False), (["--model", "tiny", "--keep"], True)):
        monkeypatch.setattr("sys.argv", ["bench", *arguments])
        bench.main()
        written = json.loads((tmp_path / "outputs/bench/tiny-float32-cpu.json").read_text())
        assert [row["name"] for row in written["rows"]] == ["seconds", "one / other"]
        assert (tmp_path / "outputs/speed/tiny-float32-cpu.json").exists() == kept
    record = json.loads((tmp_path / "outputs/speed/tiny-float32-cpu.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["one / other"]
    assert record["machine"]["processor"]
