"""Files: whole or not there, and one clear line when something is wrong."""

import errno
import json
import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from pipeline.artifacts import directions, prompt_scores, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import provenance
from pipeline.config.compose import compose
from pipeline.config.schema import Config
from pipeline.disk import files, locks, tensors
from pipeline.disk.steps import Steps
from pipeline.errors import UserError
from pipeline.judges.text.substring import REFUSAL_PHRASES, judge
from pipeline.maths.directions import Direction
from pipeline.maths.estimators import Finding
from pipeline.maths.selection import CandidateScores, FilterVerdict, PromptScores
from tests.conftest import write_selection


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"no space left to write .*a\.json"):
        files.write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/a\.json"):
        files.write_json(tmp_path / "file" / "a.json", {})


def test_a_folder_is_published_whole_or_not_at_all(tmp_path):
    def broken(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        locks.publish_folder(tmp_path / "model", broken)
    assert list(tmp_path.iterdir()) == []


def test_completions_may_hold_any_character(tmp_path):
    rows = [{"completion": "a\u2028b\nc\x85d \u2019 <script>"}]
    files.write_jsonl(tmp_path / "a.jsonl", rows)
    assert files.read_jsonl(tmp_path / "a.jsonl") == rows


def test_a_malformed_line_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match=r"a\.jsonl:2 is not JSON"):
        files.read_jsonl(tmp_path / "a.jsonl")


def test_a_direction_of_another_model_is_refused(tmp_path):
    layout = Layout("m", "run", tmp_path)
    direction = Direction(torch.ones(4, dtype=torch.float64), layer=2, position=-1)
    write_selection(layout.selection, layer=2, position=-1)
    records.write_direction(layout.direction, direction, "sha256:a")
    read = records.read_direction(layout.direction, layout.selection, "sha256:a")
    assert read is not None
    assert torch.equal(read.vector, direction.vector)
    with pytest.raises(UserError, match="belongs to model 'sha256:a', not 'sha256:b'"):
        records.read_direction(layout.direction, layout.selection, "sha256:b")


def test_a_truncated_tensor_file_is_one_line(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors.write_tensors(path, {"a": torch.ones(100)}, {"model": "m"})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        tensors.read_tensors(path, model="m")


def test_scores_survive_a_file_with_their_missing_values(tmp_path):
    rows = [CandidateScores(-1, 2, 0.1, -3.25, 1e-9), CandidateScores.without_direction(-1, 0)]
    records.write_scores(tmp_path / "scores.csv", rows)
    read = records.read_scores(tmp_path / "scores.csv")
    assert read[0] == rows[0]
    assert read[1].zero_norm
    assert read[1].bypass != read[1].bypass


def test_a_torn_line_is_cut_off_before_going_on(tmp_path):
    path = tmp_path / "partial.jsonl"
    first = Steps(path)
    first.keep({"0": "é", "1": "b"})
    path.write_bytes(path.read_bytes() + '{"step": "2", "value": "é'.encode()[:-1])
    second = Steps(path)
    assert second.values == {"0": "é", "1": "b"}
    second.keep({"2": "c"})
    assert list(Steps(path).values) == ["0", "1", "2"]


@pytest.mark.parametrize("phrase", REFUSAL_PHRASES)
def test_the_twelve_phrases_refuse_anywhere_and_in_any_case(phrase):
    verdict = judge("", f"Well, {phrase.upper()} do that.")
    assert (verdict.refused, verdict.reason) == (True, phrase)


def test_other_text_does_not_refuse():
    assert not judge("I cannot wait", "Certainly! Here is how.").refused
    assert len(REFUSAL_PHRASES) == 12


SCORES = PromptScores((-1.0, 2.0), (0.5, 0.25, math.nan), (0.1, 0.2, 0.3))


def test_scores_per_prompt_survive_a_file_with_what_is_missing(tmp_path):
    sweep = prompt_scores.Sweep({(-1, 3): SCORES, (-2, 0): None}, [1.0, 2.0], [-3.0, -4.0, -5.0])
    prompt_scores.write_sweep(tmp_path / "a.safetensors", sweep, "sha256:a")
    read = prompt_scores.read_sweep(tmp_path / "a.safetensors", "sha256:a")
    assert list(read.candidates) == [(-1, 3), (-2, 0)]
    assert repr(read.candidates) == repr(sweep.candidates)
    assert (read.harmful_metric, read.harmless_metric) == (sweep.harmful_metric, sweep.harmless_metric)
    with pytest.raises(UserError, match="belongs to model"):
        prompt_scores.read_sweep(tmp_path / "a.safetensors", "sha256:b")


def test_scores_that_are_not_finite_are_null_in_json_and_named_where_an_interval_is_needed():
    record = SCORES.record
    assert record["induce"] == [0.5, 0.25, None]
    assert repr(PromptScores.of(record)) == repr(SCORES)
    with pytest.raises(UserError, match="random_0 has 1 scores that are not finite"):
        prompt_scores.require_finite("random_0", SCORES)


def test_directions_rows_and_findings_survive_a_file(tmp_path):
    layout = Layout("m", "run", tmp_path)
    vectors = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    controls = {"random_0": Direction(vectors[0], 2, -1), "layer_1": Direction(vectors[1], 1, -3)}
    directions.write_directions(layout.controls, controls, "sha256:a")
    read = directions.read_directions(layout.controls, "sha256:a")
    assert {name: (d.layer, d.position, d.vector.tolist()) for name, d in read.items()} == {
        name: (d.layer, d.position, d.vector.tolist()) for name, d in controls.items()
    }
    directions.write_rows(layout.rows, {"harmful": vectors, "harmless": -vectors}, "sha256:a", (-1, 2))
    assert torch.equal(directions.read_rows(layout.rows, "sha256:a", (-1, 2))["harmful"], vectors)
    with pytest.raises(UserError, match="belongs to places"):
        directions.read_rows(layout.rows, "sha256:a", (-1, 3))
    broken = vectors.clone()
    broken[0, 0] = torch.nan
    directions.write_rows(layout.rows, {"harmful": vectors, "harmless": broken}, "sha256:a", (-1, 2))
    with pytest.raises(UserError, match="holds NaN or infinity: run `dvc repro`"):
        directions.read_rows(layout.rows, "sha256:a", (-1, 2))
    findings = {"a": ((-1, 2), Finding(vectors[0])), "b": ((-2, 1), Finding(vectors[1], vectors[2], -0.5, 2.5))}
    directions.write_findings(layout.findings, findings, "sha256:a")
    found = directions.read_findings(layout.findings, "sha256:a")
    assert {name: place for name, (place, _) in found.items()} == {"a": (-1, 2), "b": (-2, 1)}
    assert found["a"][1].readout is None
    readout = found["b"][1].readout
    assert readout is not None
    assert torch.equal(readout, vectors[2])
    assert (found["b"][1].low, found["b"][1].high) == (-0.5, 2.5)


def test_without_a_direction_there_are_no_controls_and_no_sources(tmp_path):
    layout = Layout("m", "run", tmp_path)
    records.write_no_selection(layout.selection, "paper", FilterVerdict("no_refusal_behaviour", "", 0, 3))
    directions.write_directions(layout.controls, {}, "sha256:a")
    directions.write_findings(layout.findings, {}, "sha256:a")
    directions.write_rows(layout.rows, {}, "sha256:a", None)
    assert directions.read_directions(layout.controls, "sha256:a") == {}
    assert directions.read_findings(layout.findings, "sha256:a") == {}
    assert directions.read_sources(layout, "sha256:a", 1.0) == {}


def test_the_configuration_hash_changes_with_what_counts_alone(tmp_path):
    layout = Layout("tiny", "smoke", tmp_path)
    empty = ("overlaps", "not_drawn_as_repeats", "pools", "counts", "licences", "surface_auroc")
    plain = {"preset": "toy", "near_duplicate": 0.9, "hashes": {"harmful_test": "a"}}
    files.write_json(layout.audit, {**plain, **{name: {} for name in empty}})
    measured = {"tokenizer": "t", "chat_template": "c", "device": "cpu", "system": ""}
    counted = {"verdict": None, "reason": "", "refused": 0, "n": 0, "sets": {}, "position_tokens": []}
    files.write_json(layout.filter_summary, {**counted, "measured": measured})

    def config_hash(*overrides: str) -> str:
        composed = compose("tiny", "smoke", list(overrides))
        OmegaConf.save(composed, layout.config)
        config = OmegaConf.to_object(composed)
        assert isinstance(config, Config)
        config.engine.dtype = "bfloat16"  # as settled on some machine
        return provenance(config, layout, "m", ("engine", "seed"))["config"]

    assert config_hash() == config_hash("judge.window=9")
    assert config_hash() != config_hash("seed=1")


def test_a_folder_takes_its_name_on_another_disk_too(tmp_path, monkeypatch):
    rename, (folder, target) = Path.rename, (tmp_path / "work", tmp_path / "there" / "export")
    folder.mkdir()
    (folder / "a").write_text("a")

    def renamed(path, to):
        if path == folder:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", renamed)
    files.move_folder(folder, target)
    assert [path.name for path in target.iterdir()] == ["a"]
    assert [path.name for path in target.parent.iterdir()] == ["export"]
    assert not folder.exists()
