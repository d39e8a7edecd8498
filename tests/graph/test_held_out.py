"""Stage `controls` on the tiny model: every direction on every test prompt, few of them in the answers, and resumed."""

import json
import math
import shutil
import subprocess
import sys
from functools import reduce

import pytest
from safetensors.torch import load_file

from pipeline.artifacts.layout import Layout
from pipeline.disk.steps import Steps
from pipeline.errors import UserError
from pipeline.results.metrics_file import read_metrics
from tests.helpers.graph import RUN, Project
from tests.helpers.stop import killed

SCORED = {"random_0", "random_1", "random_2", "covariance_0", "covariance_1", "shuffled_0"}
ANSWERED = {"random_0", "random_1", "covariance_0", "shuffled_0"}
PROMPTS = 8  # of each class


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    return Project.copied(finished, tmp_path_factory.mktemp("project"))


@pytest.fixture
def layout(project):
    return Layout("tiny", RUN, project.folder)


def test_every_control_has_finite_scores_on_all_test_prompts(layout):
    metrics = read_metrics(layout.metrics)
    found = metrics.test_scores
    assert found is not None
    layers = {source for source in metrics.controls if source.startswith("layer_")}
    assert metrics.controls.keys() == SCORED | layers
    for row in (found.bypass, found.subtraction, found.induce):
        assert row.controls.keys() == metrics.controls.keys()
        assert row.ranks == {}, "of so few controls"
        for moved in (row.direction, *row.controls.values()):
            for number in (moved.score, moved.change):
                assert number.value is not None
                assert math.isfinite(number.value)
                assert number.n == PROMPTS, "all, whatever the filter says"
            assert moved.change.value == pytest.approx((moved.score.value or 0) - (row.baseline.value or 0))
    assert found.kl.controls.keys() == metrics.controls.keys()
    assert all((row.value or 0) > 0 for row in (found.kl.direction, *found.kl.controls.values()))
    assert metrics.direction is not None
    assert (metrics.direction.kind, metrics.direction.cosine) == ("direction", pytest.approx(1))
    assert abs(metrics.controls["shuffled_0"].cosine) < 1e-9 < abs(metrics.controls["random_0"].cosine)


def test_metrics_that_lack_a_controls_score_are_refused(layout, tmp_path):
    for found in (("controls",), ("test_scores", "induce", "controls"), ("test_scores", "kl", "controls")):
        record = json.loads(layout.metrics.read_text())
        reduce(dict.__getitem__, found, record).pop("random_2")
        (tmp_path / "metrics.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match=r"metrics\.json .*scores of other controls than it names.*`dvc repro`"):
            read_metrics(tmp_path / "metrics.json")


def test_the_first_controls_of_a_kind_answer_and_the_others_are_scored_alone(layout):
    layers = {source for source in load_file(layout.controls) if source.startswith("layer_")}
    assert load_file(layout.controls).keys() == ANSWERED | layers
    sources = {label.source for label in read_metrics(layout.metrics).refusal_score if label.is_main}
    assert sources >= ANSWERED
    assert not sources & (SCORED - ANSWERED)


def test_the_report_has_a_row_for_every_control_and_names_val_as_what_chose(layout):
    lines = layout.report.read_text().splitlines()
    for source in SCORED:
        rows = [line for line in lines if line.startswith(f"│ {source.replace('_', ' ')} ")]
        assert any(f"{read_metrics(layout.metrics).controls[source].cosine:+.2f}" in row for row in rows)
    assert any(line.startswith("on the prompts that chose it, nats: bypass") for line in lines)
    assert any(line.startswith("no rank: among fewer than 19 controls") for line in lines)


def test_a_killed_stage_goes_on_with_the_next_batch_and_ends_with_the_same(project, layout):
    whole = {path.name: path.read_bytes() for path in layout.controls.parent.iterdir()}
    shutil.rmtree(layout.controls.parent)
    command = [sys.executable, "-m", "pipeline.stages", "controls", "--model", "tiny", "--run", RUN]
    killed(command, "*/outputs/partial/controls-*.jsonl", 2, cwd=project.folder, stderr=subprocess.DEVNULL)
    assert not layout.control_scores.exists()
    [path] = (project.folder / "outputs/partial").glob("controls-*.jsonl")
    kept = Steps(path)
    assert "direction" in kept.values
    assert len(kept.values) < len(SCORED), "there is work left"
    expected = json.loads(whole["scores.json"])
    assert kept.values.items() <= expected["scores"].items()
    expected["scores"]["direction"]["kl"][0] = 99.0
    kept.keep({"direction": expected["scores"]["direction"]})  # a mark that shows what was not scored again
    project.stage("controls")
    assert json.loads(layout.control_scores.read_text()) == expected
    assert all((layout.controls.parent / name).read_bytes() == whole[name] for name in whole if name != "scores.json")
    assert not list((project.folder / "outputs/partial").glob("controls-*.jsonl"))
