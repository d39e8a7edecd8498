"""What has changed by itself is seen before it is used: rows of partial files, DVC's cache, the workspace."""

import json
import os
import shutil

import pytest
import yaml

from pipeline.artifacts.partial import PartialRows
from pipeline.kept import forget_the_dead
from tests.graph import RUN, Project

ROWS = [{"row": 0, "text": "é"}, {"row": 1, "losses": [0.1, 2.0]}, {"row": 2, "text": None}]


@pytest.fixture
def partial(tmp_path):
    path = tmp_path / "partial.jsonl"
    PartialRows(path).append(ROWS)
    assert PartialRows(path).rows == ROWS, "whole ones are read as they were"
    return path


def damaged(line: str) -> dict[str, str]:
    row = json.loads(line)
    return {
        "no JSON": line[1:],
        "another type": "[1]",
        "a number": "1",
        "no text": "\udcff",
        "a key is lacking": json.dumps({key: value for key, value in row.items() if key != "row"}),
        "no hash": json.dumps({"row": 1, "losses": [0.1, 2.0]}),
        "NaN": line.replace("2.0", "NaN"),
        "altered": line.replace("2.0", "2.5"),
        "another row": line.replace('"row": 1', '"row": 7'),
        "nested": "[" * 100_000,
        "empty": "",
    }


@pytest.mark.parametrize("kind", damaged('{"row": 1}'))
def test_a_damaged_row_is_cut_out_and_the_others_are_kept(partial, kind):
    lines = partial.read_text().splitlines()
    changed = damaged(lines[1])[kind]
    assert changed != lines[1]
    partial.write_text("\n".join([lines[0], changed, lines[2], ""]), errors="surrogateescape")
    found = PartialRows(partial)
    assert found.rows == [ROWS[0], ROWS[2]]
    found.append([ROWS[1]])
    assert PartialRows(partial).rows == [ROWS[0], ROWS[2], ROWS[1]]
    assert sorted(partial.read_text().splitlines()) == sorted(lines)


def test_a_row_that_stands_twice_counts_once(partial):
    text = partial.read_text()
    partial.write_text(text + text)
    assert PartialRows(partial).rows == ROWS
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
    built.repro(f"refusal_tokens@tiny-{RUN}")
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


def held(project, md5):
    return project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def objects(project):
    """The objects of DVC's cache of stage `prompts`: that of the folder, and one of its files by its path."""
    [out] = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"][f"prompts@tiny-{RUN}"]["outs"]
    listed = json.loads(held(project, out["md5"]).read_text())
    [md5] = [row["md5"] for row in listed if row["relpath"] == "harmless_val.jsonl"]
    return held(project, out["md5"]), held(project, md5)


@pytest.mark.parametrize("how", ["pipeline.repro", "dvc repro"])
@pytest.mark.parametrize("what", ["workspace", "object", "listing", "both", "object, to be checked out"])
def test_a_flipped_bit_is_seen_before_it_is_used_and_mended(project, what, how):
    made, outs = project.at("models") / "prompts", project.outs()
    listing, kept = objects(project)
    whole = [listing.read_bytes(), kept.read_bytes()]
    if what in ("workspace", "both"):
        path = made / "harmless_val.jsonl"
        shutil.copy2(path, made / "copy")  # no link into the cache, so that one of the two is damaged
        os.replace(made / "copy", path)
        flip(path)
    if what in ("object", "both", "object, to be checked out"):
        flip(kept)
    if what == "listing":
        flip(listing)
    if what == "object, to be checked out":
        shutil.rmtree(made)
    command = ("pipeline.repro", "prompts") if how == "pipeline.repro" else ("dvc", "repro", f"prompts@tiny-{RUN}")
    result = project.module(*command)
    assert project.outs() == outs
    assert [listing.read_bytes(), kept.read_bytes()] == whole
    bad = listing if what == "listing" else kept
    line = f"{bad.relative_to(project.folder)} is damaged: removed, and what made it runs again"
    assert (line in result.stderr) == (what != "workspace")
    assert f"Running stage 'prompts@tiny-{RUN}'" in result.stdout or "is cached" in result.stdout
