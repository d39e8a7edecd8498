"""Files: whole or not there, and one clear line when something is wrong."""

import errno
import json
from pathlib import Path

import pytest
import torch

from pipeline.artifacts import files, records, tensors
from pipeline.artifacts.layout import Layout
from pipeline.errors import UserError
from pipeline.judges.substring import REFUSAL_PHRASES, judge
from pipeline.maths.directions import Direction
from pipeline.maths.selection import CandidateScores


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
        files.publish_folder(tmp_path / "model", broken)
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
    layout = Layout("m", tmp_path)
    direction = Direction(torch.ones(4, dtype=torch.float64), layer=2, position=-1)
    files.write_json(layout.selection, {"chosen": {"layer": 2, "position": -1}})
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
    first = records.PartialRows(path)
    first.append([{"row": 0, "text": "é"}, {"row": 1, "text": "b"}])
    path.write_bytes(path.read_bytes() + '{"row": 2, "text": "é'.encode()[:-1])
    second = records.PartialRows(path)
    assert [row["row"] for row in second.rows] == [0, 1]
    second.append([{"row": 2, "text": "c"}])
    assert [row["row"] for row in records.PartialRows(path).rows] == [0, 1, 2]


@pytest.mark.parametrize("phrase", REFUSAL_PHRASES)
def test_the_twelve_phrases_refuse_anywhere_and_in_any_case(phrase):
    verdict = judge("", f"Well, {phrase.upper()} do that.")
    assert (verdict.refused, verdict.reason) == (True, phrase)


def test_other_text_does_not_refuse():
    assert not judge("I cannot wait", "Certainly! Here is how.").refused
    assert len(REFUSAL_PHRASES) == 12
