"""What is on the disk and what of it nobody needs: pruning removes what it says, and no run misses it."""

import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.artifacts import provenance
from pipeline.commands import cache as command
from pipeline.disk import space
from pipeline.disk.files import LOCK
from pipeline.disk.space import Held, Ruler
from pipeline.graph import objects
from pipeline.sources.held import Needed, held
from tests.helpers.graph import RUN, Project

OLD = time.time() - 2 * space.AT_REST
HASHES = [letter * 64 for letter in "abcdef"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A user's cache folder of these tests' own."""
    folder = tmp_path_factory.mktemp("user")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    yield folder / "refusal-direction"
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="module")
def project(tmp_path_factory, cache):
    """The export with weights, then its proof alone: what was replaced is in DVC's cache still."""
    built = Project(tmp_path_factory.mktemp("cache"))
    assert built.repro(f"export@tiny-{RUN}")[-1] == "export"
    shutil.copy(built.folder / "dvc.lock", built.folder / "before.lock")
    built.params(overrides="export.keep=proof")
    assert built.repro(f"export@tiny-{RUN}") == ["compose", "export"]
    return built


def files_of(folder):
    """Every file with its bytes, but the lock files of those who looked."""
    found = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()}
    return {path: content for path, content in found.items() if path.name != LOCK}


def objects_of(project):
    return files_of(project.folder / ".dvc/cache/files/md5")


def aged(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for each in (path, path.parent):
        os.utime(each, (OLD, OLD))
    return path


def prune(project, *arguments, check=True):
    return project.module("pipeline", "cache", "--prune", *arguments, check=check)


def test_the_workspace_and_the_cache_of_dvc_are_one_copy(project):
    in_cache = {(path.stat().st_dev, path.stat().st_ino) for path in objects_of(project)}
    outs = [path for path in project.at("models").rglob("*") if path.is_file() and path.name != "config.yaml"]
    assert len(outs) > 20
    alone = [path for path in outs if (path.stat().st_dev, path.stat().st_ino) not in in_cache]
    # DVC leaves as they are those that its cache had already, of the export with weights.
    assert {path.name for path in alone} == {"README.md", "SHA256SUMS", "coverage.json", "equivalence.json"}
    ruler = Ruler()
    assert ruler.size([project.folder / ".dvc/cache"]) > 0
    assert ruler.size(set(outs) - set(alone)) == 0


def test_the_list_has_what_the_run_needs_with_its_size_and_a_total(project, cache):
    said = project.module("pipeline", "cache").stdout
    [random] = (cache / "random").iterdir()
    assert f"{random.name[:12]}, transformers {version('transformers')}" in said
    assert f"tiny, {RUN}" in said
    assert "total" in said
    assert objects.NOBODY in said, "the weights that the proof stands for"


def test_pruning_removes_what_it_says_and_the_run_misses_nothing(project, cache):
    before, outs = objects_of(project), project.outs()
    said = prune(project).stdout
    assert "nothing was removed: say --yes" in said
    assert objects_of(project) == before
    said = prune(project, "--yes").stdout
    gone = set(before) - set(objects_of(project))
    assert sum(len(before[path]) for path in gone) > 200_000, "the weights"
    assert f"{len(gone)} objects" in said
    assert "4 files" in said
    in_cache = {(path.stat().st_dev, path.stat().st_ino) for path in objects_of(project)}
    proof = list((project.at("models") / "export").iterdir())
    assert [path for path in proof if (path.stat().st_dev, path.stat().st_ino) not in in_cache] == []
    assert objects_of(project).items() <= before.items()
    assert project.outs() == outs
    assert "nothing to remove" in prune(project, "--yes").stdout
    shutil.rmtree(project.at("models"))
    project.module("dvc", "checkout", f"export@tiny-{RUN}", f"scores@tiny-{RUN}", f"prompts@tiny-{RUN}")
    assert project.repro(f"export@tiny-{RUN}") == ["compose"], "everything else comes back"
    assert project.outs() == outs


def test_what_was_removed_is_made_again_when_it_is_asked_for(project):
    outs = project.outs()
    project.params()
    assert project.repro(f"export@tiny-{RUN}") == ["compose", "export"]
    assert (project.at("models") / "export/model.safetensors").exists()
    project.params(overrides="export.keep=proof")
    assert project.repro(f"export@tiny-{RUN}") == ["compose"], "the proof is in DVC's cache"
    assert project.outs() == outs
    prune(project, "--yes")


def test_runs_that_params_yaml_does_not_name_and_jobs_of_sweeps_keep_their_objects(project):
    before = objects_of(project)
    job = project.folder / ".sweep/jobs/old"
    job.mkdir(parents=True)
    shutil.copy(project.folder / "dvc.yaml", job)
    extra = b"of a job"
    digest = "0123456789abcdef0123456789abcdef"
    kept = project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(extra)
    out = f"outputs/models/tiny/{RUN}/loss.json"
    (job / "dvc.lock").write_text(f"stages:\n  loss@tiny-{RUN}:\n    outs: [{{path: {out}, md5: {digest}}}]\n")
    project.params(profile="smoke-other", overrides="seed=3")
    try:
        assert "nothing to remove" in prune(project, "--yes").stdout
        assert objects_of(project) == {**before, kept: extra}
        shutil.rmtree(job)
        assert "1 objects" in prune(project, "--yes").stdout
        assert objects_of(project) == before
    finally:
        project.params(overrides="export.keep=proof")


def test_what_is_not_needed_goes_and_what_is_not_ours_held_or_fresh_stays(project, cache, tmp_path):
    [needed] = (cache / "random").iterdir()
    outside = tmp_path / "outside"
    aged(outside / "file")
    going = [
        aged(cache / "sha256" / HASHES[0] / "data.csv"),
        aged(cache / "converted" / f"{HASHES[0]}-transformers-4.0.0" / "model.safetensors"),
        aged(cache / "random" / f"{needed.name.partition('-')[0]}-transformers-4.0.0" / "model.safetensors"),
        aged(cache / "converted" / f".{HASHES[1]}-transformers-5.0.0.abc_12" / "model.safetensors"),
        aged(cache / "offload" / "offload-dead" / "weights.dat"),
        aged(project.folder / "outputs/partial/export-0" / "model.safetensors"),
        aged(project.folder / "outputs/partial/scores-0.jsonl"),
    ]
    held_by_us = aged(cache / "sha256" / HASHES[1] / "data.csv.partial")
    alive = aged(cache / "offload" / "offload-alive" / "weights.dat")
    fresh = cache / "converted" / f".{HASHES[2]}-transformers-5.0.0.abc_12" / "model.safetensors"
    fresh.parent.mkdir()
    fresh.write_text("being written")
    staying = [
        held_by_us,
        alive,
        fresh,
        aged(cache / "sha256" / "mine" / "file"),
        aged(cache / "converted" / "mine" / "file"),
        aged(cache / "notes.txt"),
        aged(project.folder / "outputs/partial/loss-0.jsonl"),  # of a stage that is yet to run
        aged(project.folder / "outputs/partial/completions-0.jsonl"),
        aged(project.folder / "outputs/partial/gcg-0.jsonl"),
        outside / "file",
    ]
    (cache / "sha256" / HASHES[3]).symlink_to(outside)
    (cache / "converted" / f"{HASHES[3]}-transformers-4.0.0").symlink_to(outside)
    (cache / "converted" / f"{HASHES[0]}-transformers-4.0.0" / "link").symlink_to(outside)
    aged(cache / "converted" / f"{HASHES[0]}-transformers-4.0.0" / "model.safetensors")
    before = files_of(cache) | files_of(project.folder / "outputs")
    with FileLock(held_by_us.parent / LOCK), FileLock(alive.parent / LOCK):
        said = prune(project, "--yes").stdout
    after = files_of(cache) | files_of(project.folder / "outputs")
    assert set(before) - set(after) == set(going)
    assert all(path.exists() for path in staying)
    assert f"of transformers 4.0.0, here is {version('transformers')}" in said
    assert "every run has finished its stage" in said
    assert needed.exists()
    for path in [*staying[:-1], *(cache / "converted").iterdir(), cache / "sha256" / HASHES[3]]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def test_while_dvc_runs_its_cache_and_unfinished_work_stay(project):
    partial = aged(project.folder / "outputs/partial/scores-0.jsonl")
    command = [sys.executable, "-c", "import time; time.sleep(100)", "-m", "dvc", "repro"]
    process = subprocess.Popen(command, cwd=project.folder)
    try:
        result = prune(project, "--yes")
    finally:
        process.kill()
        process.wait()
    assert "another process makes results here" in result.stderr
    assert partial.exists()
    prune(project, "--yes")
    assert not partial.exists()


def test_a_stage_that_a_run_has_yet_to_do_keeps_its_unfinished_work(project):
    partial = aged(project.folder / "outputs/partial/export-0" / "model.safetensors")
    kept = project.at("models") / "export"
    moved = kept.rename(project.folder / "aside")  # as DVC leaves it while the stage runs
    try:
        assert "nothing to remove" in prune(project, "--yes").stdout
        assert partial.exists()
    finally:
        moved.rename(kept)
    prune(project, "--yes")
    assert not partial.exists()


def test_removing_goes_through_no_link_and_waits_for_no_lock(tmp_path):
    outside = aged(tmp_path / "outside" / "file")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside.parent)
    for path in (root / "link" / "file", root / "link"):
        space.remove(Held(root, "", "", (path,)))
        assert outside.exists()
    with pytest.raises(AssertionError):
        space.remove(Held(root, "", "", (outside,)))
    inside = aged(root / "folder" / "file")
    with FileLock(inside.parent / LOCK):
        assert not space.remove(Held(root, "", "", (inside,), lock=inside.parent / LOCK))
        assert inside.exists()
    assert space.remove(Held(root, "", "", (inside,), lock=inside.parent / LOCK))
    assert not inside.exists()


@pytest.mark.parametrize(("answer", "gone"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_it_asks(tmp_path, monkeypatch, capsys, answer, gone):
    path = aged(tmp_path / "folder" / "file")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    command.prune([(Held(tmp_path, "download", "file", (path,), unneeded="of no run"), 1500)], tmp_path, False)
    assert path.exists() != gone
    said = capsys.readouterr().out
    assert "of no run" in said
    assert ("removed, 1.5 kB" in said) == gone


def test_a_file_with_two_names_is_counted_once(tmp_path):
    one = aged(tmp_path / "one" / "file", "x" * 1000)
    (tmp_path / "two").hardlink_to(one)
    (tmp_path / "link").symlink_to(one)
    ruler = Ruler()
    assert ruler.size([tmp_path / "two"]) == 1000
    assert ruler.size([tmp_path / "one"]) == 0
    assert ruler.size([tmp_path / "link"]) == len(str(one))


def test_weights_on_disk_are_of_a_process_until_it_ends(tmp_path):
    from pipeline.model.loading.placement import Memory, scratch

    folder = scratch(Memory({}, tmp_path / "offload"))
    for path in (folder / LOCK, folder):
        os.utime(path, (OLD, OLD))
    [row] = held(tmp_path, Needed(), "5")
    assert (row.name, row.unneeded) == (folder.name, "")
    assert not space.remove(row)
    (folder / LOCK).unlink()  # as if its process had been killed: nobody holds it
    os.utime(folder, (OLD, OLD))
    [row] = held(tmp_path, Needed(), "5")
    assert row.unneeded == "of a process that has ended"
    assert space.remove(row)
    assert not folder.exists()


COMMITS = ["1" * 40, "2" * 40]


def test_hub_files_of_other_commits_go_without_what_commits_share(tmp_path):
    repo = tmp_path / "hub" / "models--owner--name"
    for blob in ("shared", "one", "two"):
        aged(repo / "blobs" / blob)
    for commit, own in zip(COMMITS, ("one", "two"), strict=True):
        folder = repo / "snapshots" / commit
        folder.mkdir(parents=True)
        for name, blob in {"config.json": "shared", "model.safetensors": own}.items():
            (folder / name).symlink_to(f"../../blobs/{blob}")
            os.utime(folder / name, (OLD, OLD), follow_symlinks=False)
        os.utime(folder, (OLD, OLD))
    partial = aged(repo / "blobs" / "three.incomplete")
    rows = list(held(tmp_path, Needed(repositories={("owner/name", COMMITS[0]): ["run"]}), "5"))
    assert [row.use for row in rows if COMMITS[0][:12] in row.name] == ["run"]
    for row in rows:
        if row.unneeded:
            space.remove(row)
    assert {path.name for path in (repo / "blobs").iterdir()} == {"shared", "one"}
    assert (repo / "snapshots" / COMMITS[0] / "config.json").exists()
    assert not (repo / "snapshots" / COMMITS[1]).exists()
    assert not partial.exists()


def test_another_code_makes_another_converted_model(tmp_path, monkeypatch):
    code = tmp_path / "gguf.py"
    code.write_bytes(provenance.GGUF.read_bytes())
    before = provenance.converted_recipe(HASHES[0])
    monkeypatch.setattr(provenance, "GGUF", code)
    assert provenance.converted_recipe(HASHES[0]) == before != provenance.converted_recipe(HASHES[1])
    code.write_bytes(code.read_bytes() + b"# changed\n")
    assert provenance.converted_recipe(HASHES[0]) != before
