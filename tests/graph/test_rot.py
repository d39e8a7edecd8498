"""What has changed by itself is seen before it is used: rows of partial files, DVC's cache, the workspace."""

import hashlib
import json
import os
import shutil

import pytest
import yaml

from pipeline.disk.steps import Steps
from pipeline.graph.kept import forget_the_dead
from tests.helpers.graph import RUN, Project

KEPT = {"0": {"text": "é"}, "1": [0.1, 2.0], "2": None}


@pytest.fixture
def partial(tmp_path):
    path = tmp_path / "partial.jsonl"
    Steps(path).keep(KEPT)
    assert Steps(path).values == KEPT, "whole ones are read as they were"
    return path


def damaged(line: str) -> dict[str, str]:
    row = json.loads(line)
    return {
        "no JSON": line[1:],
        "another type": "[1]",
        "a number": "1",
        "no text": "\udcff",
        "a key is lacking": json.dumps({key: value for key, value in row.items() if key != "step"}),
        "no hash": json.dumps({"step": "1", "value": [0.1, 2.0]}),
        "NaN": line.replace("2.0", "NaN"),
        "altered": line.replace("2.0", "2.5"),
        "another row": line.replace('"step": "1"', '"step": "7"'),
        "nested": "[" * 100_000,
        "empty": "",
    }


@pytest.mark.parametrize("kind", damaged('{"step": "1"}'))
def test_a_damaged_row_is_cut_out_and_the_others_are_kept(partial, kind):
    lines = partial.read_text().splitlines()
    changed = damaged(lines[1])[kind]
    assert changed != lines[1]
    partial.write_text("\n".join([lines[0], changed, lines[2], ""]), errors="surrogateescape")
    steps = Steps(partial)
    assert steps.values == {step: KEPT[step] for step in ("0", "2")}
    steps.keep({"1": KEPT["1"]})
    assert Steps(partial).values == KEPT
    assert sorted(partial.read_text().splitlines()) == sorted(lines)


def test_a_row_that_stands_twice_counts_once(partial):
    text = partial.read_text()
    partial.write_text(text + text)
    assert Steps(partial).values == KEPT
    assert partial.read_text() == text


@pytest.mark.parametrize("text", ["", '{"write": {', "[]", '{"read": {}, "write": {"a": {"pid": "x"}}}'])
def test_a_note_of_dvc_that_was_torn_is_removed(tmp_path, text):
    path = tmp_path / "rwlock"
    path.write_text(text)
    forget_the_dead(path)
    assert not path.exists()
    forget_the_dead(path)


def test_a_note_of_dvc_stays_while_one_who_stands_in_it_lives(tmp_path):
    path = tmp_path / "rwlock"

    def holders(*pids):
        path.write_text(json.dumps({"write": {}, "read": {"conf": [{"pid": pid, "cmd": "dvc"} for pid in pids]}}))

    gone = 2**22 - 1  # above every number that the system gives
    holders(gone, os.getpid())
    forget_the_dead(path)
    assert path.exists()
    os.utime(path, (1, 1))  # the process that has this number now is younger than the note
    forget_the_dead(path)
    assert not path.exists()
    holders(gone)
    forget_the_dead(path)
    assert not path.exists()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    built = Project(tmp_path_factory.mktemp("rot"))
    built.repro(f"prompts@tiny-{RUN}", f"engine@tiny-{RUN}")
    return built


def flip(path):
    """A bit, as a disk would: size, time and mode stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(content)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def objects(project, stage):
    """The objects of a stage's out in DVC's cache by path; that of a folder's list is `list`."""

    def held(md5):
        return project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]

    [out] = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"][f"{stage}@tiny-{RUN}"]["outs"]
    if not out["md5"].endswith(".dir"):
        return {"file": held(out["md5"])}
    listed = json.loads(held(out["md5"]).read_text())
    return {"list": held(out["md5"]), **{row["relpath"]: held(row["md5"]) for row in listed}}


@pytest.mark.parametrize(
    "command",
    [
        (
            "pipeline",
            "repro",
        ),
        ("dvc", "repro"),
    ],
)
def test_flipped_bits_are_seen_before_they_are_used_and_mended(project, command):
    names = ["prompts", "engine"] if command[0] == "pipeline" else [f"prompts@tiny-{RUN}", f"engine@tiny-{RUN}"]
    made, outs, kept = project.at("models") / "prompts", project.outs(), objects(project, "prompts")
    engine = objects(project, "engine")["file"]
    whole = {path: path.read_bytes() for path in (*kept.values(), engine)}
    path = made / "harmless_val.jsonl"
    shutil.copy2(path, made / "copy")  # no link into the cache, whose object stays whole
    os.replace(made / "copy", path)
    flip(path)
    flip(kept["harmful_val.jsonl"])
    flip(engine)
    (project.at("models") / "engine.json").unlink()  # would be checked out again
    result = project.module(*command, *names)
    assert project.outs().keys() == outs.keys()
    assert [name for name in outs if project.outs()[name] != outs[name] and "engine.json" not in name] == []
    assert {path: path.read_bytes() for path in kept.values()} == {path: whole[path] for path in kept.values()}
    for bad in (kept["harmful_val.jsonl"], engine):
        line = f"{bad.relative_to(project.folder)} is damaged: removed, and what made it runs again"
        assert result.stderr.count(line) == 1
    again = objects(project, "engine")["file"]
    assert hashlib.md5(again.read_bytes()).hexdigest() == again.parent.name + again.name


def test_the_damaged_list_of_a_folder_is_removed_and_what_is_whole_stays(project):
    kept = objects(project, "prompts")
    flip(kept["list"])
    said = project.module("pipeline", "code").stderr
    assert said.count("is damaged: removed, and what made it runs again") == 1
    assert [name for name, path in kept.items() if not path.exists()] == ["list"]
