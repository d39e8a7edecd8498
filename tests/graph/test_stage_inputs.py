"""A stage starts only from inputs that are what earlier stages wrote, as they noted it or as dvc.lock has it."""

import hashlib
import json
import os

import pytest

from pipeline.artifacts.layout import Layout
from pipeline.disk.files import SUMS, file_hash
from pipeline.errors import UserError
from pipeline.graph import written
from pipeline.sources import local_path
from tests.conftest import ROOT

GRAPH = """stages:
  first:
    outs: ["outputs/models/${item.model}/${item.run}/rows", "outputs/models/${item.model}/${item.run}/one.json"]
  second:
    deps:
      - pipeline/data
      - outputs/models/${item.model}/${item.run}/one.json
    params:
      - outputs/code.json: [stages.second]
      - seed
      - outputs/models/${item.model}/${item.run}/rows/used.yaml: [seed]
  third:
    deps: ["outputs/models/${item.model}/${item.run}/rows"]
"""
FOLDER = "outputs/models/tiny/smoke"


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / FOLDER / "rows").mkdir(parents=True)
    for name in ("rows/used.yaml", "rows/other.json", "one.json"):
        (tmp_path / FOLDER / name).write_text(name)
    return Layout("tiny", "smoke")


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def lock(tmp_path, used: str = "rows/used.yaml", listing: bool = True) -> None:
    rows = [{"md5": md5("rows/other.json"), "relpath": "other.json"}, {"md5": md5(used), "relpath": "used.yaml"}]
    if listing:
        (tmp_path / ".dvc/cache/files/md5/ab").mkdir(parents=True)
        (tmp_path / ".dvc/cache/files/md5/ab/cd.dir").write_text(json.dumps(rows))
    outs = [{"path": f"{FOLDER}/rows", "md5": "abcd.dir"}, {"path": f"{FOLDER}/one.json", "md5": md5("one.json")}]
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"first@tiny-smoke": {"outs": outs}}}))


def test_what_was_noted_is_accepted_and_whatever_else_is_named(layout, tmp_path):
    written.note_written("first", layout)
    written.require_as_written("second", layout)
    written.require_as_written("third", layout)
    (tmp_path / FOLDER / "rows/other.json").write_text("rows/other.jsom")
    written.require_as_written("second", layout)  # which reads another file of that folder
    with pytest.raises(UserError, match=r"rows/other.json is not what stage first wrote: run `dvc repro`"):
        written.require_as_written("third", layout)
    (tmp_path / FOLDER / "rows/other.json").unlink()
    with pytest.raises(UserError, match=r"rows/other.json is missing: run `dvc repro`"):
        written.require_as_written("third", layout)


def test_a_file_too_many_is_named(layout, tmp_path):
    written.note_written("first", layout)
    (tmp_path / FOLDER / "rows/stray.json").write_text("{}")
    with pytest.raises(UserError, match=r"rows/stray.json is not what stage first wrote"):
        written.require_as_written("third", layout)


def test_a_file_that_became_a_folder_is_named(layout, tmp_path):
    written.note_written("first", layout)
    (tmp_path / FOLDER / "one.json").unlink()
    (tmp_path / FOLDER / "one.json").mkdir()
    with pytest.raises(UserError, match=r"one.json is missing"):
        written.require_as_written("second", layout)


@pytest.mark.parametrize("note", ["none", "damaged", "of an older run"])
def test_dvc_lock_knows_what_was_checked_out_since(layout, tmp_path, note):
    if note != "none":
        (tmp_path / FOLDER / "rows/used.yaml").write_text("older")
        written.note_written("first", layout)
        (tmp_path / FOLDER / "rows/used.yaml").write_text("rows/used.yaml")
    if note == "damaged":
        layout.written("first").write_text("{")
    lock(tmp_path)
    for stage in ("second", "third"):
        written.require_as_written(stage, layout)
    (tmp_path / FOLDER / "rows/used.yaml").write_text("damaged")
    for stage in ("second", "third"):
        with pytest.raises(UserError, match=r"rows/used.yaml is not what stage first wrote"):
            written.require_as_written(stage, layout)


@pytest.mark.parametrize("name", ["config", "config.local"])
def test_a_cache_elsewhere_is_looked_into(layout, tmp_path, name):
    (tmp_path / FOLDER / "rows/used.yaml").write_text("older")
    written.note_written("first", layout)
    (tmp_path / FOLDER / "rows/used.yaml").write_text("rows/used.yaml")
    lock(tmp_path)
    (tmp_path / ".dvc/cache").rename(tmp_path / "elsewhere")
    (tmp_path / ".dvc" / name).write_text(
        "[core]\n    no_scm = true\n['remote \"a\"']\n[cache]\n    dir = ../elsewhere\n"
    )
    written.require_as_written("second", layout)
    (tmp_path / ".dvc" / name).write_text("[cache\n")
    with pytest.raises(UserError, match=r"rows/used.yaml is not what stage first wrote"):
        written.require_as_written("second", layout)


def test_a_stage_run_by_hand_is_ahead_of_dvc_lock(layout, tmp_path):
    lock(tmp_path)
    (tmp_path / FOLDER / "rows/used.yaml").write_text("by hand")
    written.note_written("first", layout)
    written.require_as_written("second", layout)
    written.require_as_written("third", layout)


@pytest.mark.parametrize("known", ["nothing", "no lock entry", "no listing"])
def test_what_nothing_is_known_of_is_left_to_the_readers(layout, tmp_path, known):
    if known == "no lock entry":
        (tmp_path / "dvc.lock").write_text("stages: {}")
    if known == "no listing":
        lock(tmp_path, listing=False)
    (tmp_path / FOLDER / "rows/used.yaml").write_text("damaged")
    written.require_as_written("second", layout)
    written.require_as_written("third", layout)


def test_only_what_others_read_is_noted(layout, tmp_path):
    (tmp_path / "dvc.yaml").write_text(GRAPH.replace('/rows"]\n', '/rows/used.yaml"]\n'))
    written.note_written("first", layout)
    assert sorted(json.loads(layout.written("first").read_text())) == [
        f"{FOLDER}/one.json",
        f"{FOLDER}/rows/used.yaml",
    ]


def test_a_project_without_a_graph_notes_nothing_and_refuses_nothing(layout, tmp_path):
    (tmp_path / "dvc.yaml").unlink()
    written.note_written("first", layout)
    written.require_as_written("second", layout)
    assert not layout.written("first").exists()


def test_a_local_list_of_prompts_is_read_only_as_noted_beside_it(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("{}\n")
    assert local_path(str(path), "", [], tmp_path) == path  # nothing is noted
    (tmp_path / SUMS).write_text(f"{file_hash(path)}  prompts.jsonl\n")
    assert local_path(str(path), "", [], tmp_path) == path
    for damage in (lambda: path.write_text("{}\n{}\n"), lambda: None, path.mkdir, lambda: os.mkfifo(path)):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        damage()
        with pytest.raises(UserError, match=r"prompts.jsonl is not what .*SHA256SUMS notes: check it out again"):
            local_path(str(path), "", [], tmp_path)


def test_a_damaged_list_of_hashes_is_refused_where_it_stands(tmp_path, monkeypatch):
    """A line that is no note would leave what it noted unchecked."""
    path, sums = tmp_path / "prompts.jsonl", tmp_path / SUMS
    path.write_text("{}\n")
    whole = f"{file_hash(path)}  prompts.jsonl\n".encode()
    for content in (
        whole.replace(b"  ", b" *"),
        b"\r\n" + whole.upper().replace(b"PROMPTS.JSONL", b"prompts.jsonl") + b"\n",
    ):
        sums.write_bytes(content)  # as `sha256sum --binary` and others write it
        assert local_path(str(path), "", [], tmp_path) == path
    for damaged in (whole[:60], whole[1:], b"\xff" + whole[1:], whole.replace(b"  ", b" "), whole + b"\x00\n"):
        sums.write_bytes(damaged)
        with pytest.raises(UserError, match=r"SHA256SUMS.* check it out again") as refused:
            local_path(str(path), "", [], tmp_path)
        assert "\n" not in str(refused.value)

    def no(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(sums), "read_bytes", no)
    with pytest.raises(UserError, match=r"SHA256SUMS cannot be read \(Permission denied\): check it out again"):
        local_path(str(path), "", [], tmp_path)


def test_both_lists_of_prompts_are_noted_as_they_are():
    folder = ROOT / "pipeline/data"
    lines = [line.split("  ") for line in (folder / SUMS).read_text().splitlines()]
    assert {name: digest for digest, name in lines} == {path.name: file_hash(path) for path in folder.glob("*.jsonl")}
