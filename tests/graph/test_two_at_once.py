"""Two processes at the same work: one waits and says for whom; killed, one more run ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest
import yaml

from pipeline.disk import locks
from tests.helpers import stop
from tests.helpers.graph import RUN, Project

MADE_BY = {  # stages that keep what is unfinished: what they make
    "scores": "scores",
    "completions": "completions",
    "loss": "loss.json",
    "capability": "capability",
    "export": "export",
}


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    return Project.copied(finished, tmp_path_factory.mktemp("project"))


def start(project, name, *arguments):
    """A process whose output the test reads."""
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **around(project))


def stopped(project, pattern, name, *arguments):
    """A process that has stopped before it opens such a file a second time, and the number of what has stopped."""
    command = [sys.executable, "-m", name, *arguments]
    return stop.stopped(command, pattern, 1, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **around(project))


def around(project):
    """A group of its own: what a process starts in turn is killed with it, where a test says so."""
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    return {"cwd": project.folder, "env": environment, "start_new_session": True}


def hear(process, words):
    """Read what a process says until it says this."""
    said = []
    for line in process.stdout:
        if words in line:
            return
        said.append(line)
    raise AssertionError(f"never said: {words}\n{''.join(said)}")


def content(path):
    found = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each): each.read_bytes() for each in found}


@pytest.mark.parametrize("stage", MADE_BY)
def test_two_processes_on_one_stage_killed_leave_what_one_more_run_ends_as_always(project, stage):
    made, partial = project.at("models") / MADE_BY[stage], project.folder / "outputs/partial"
    whole = content(made)
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    command = ("pipeline.stages", stage, "--model", "tiny", "--run", RUN)
    first, _ = stopped(project, f"*/outputs/partial/{stage}-*", *command)
    second = start(project, *command)
    hear(second, f"waiting for process {first.pid}, which runs stage {stage}")
    assert list(partial.glob(f"{stage}-*"))
    stop.kill(second)
    stop.kill(first)
    assert not content(made), "nothing under the final name before all is done"
    project.stage(stage)
    assert content(made) == whole != {}
    assert not list(partial.iterdir())


def forget(project, stage):
    """As if the stage had never run: its outs are neither in the workspace nor in DVC's cache."""
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())
    [out] = lock["stages"][f"{stage}@tiny-{RUN}"]["outs"]
    shutil.rmtree(project.folder / out["path"])
    (project.folder / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink()


def test_a_second_run_of_the_graph_waits_and_one_after_both_were_killed_waits_for_the_stage_that_lives(project):
    made, running = project.at("models") / "scores", project.folder / "outputs/partial/scores.lock"
    whole = content(made)
    forget(project, "scores")
    first, stage = stopped(project, "*/outputs/partial/scores-*", "pipeline", "repro", "scores")
    assert int(running.read_text()) == stage
    second = start(project, "pipeline", "repro", "scores")
    try:
        hear(second, f"waiting for process {first.pid}, which runs the graph here")
        stop.kill(second)
        stop.kill(first)
        (project.folder / ".dvc/tmp/rwlock").write_text('{"write": {')  # DVC was killed while it wrote it
        again = start(project, "pipeline", "repro", "scores")
        hear(again, f"waiting for process {stage}, which runs stage scores")
        assert again.poll() is None
    finally:
        os.kill(stage, signal.SIGCONT)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert content(made) == whole != {}
    assert not list(running.parent.iterdir())
    third = project.module("pipeline", "repro", "scores").stdout
    assert "Stage 'scores@tiny-smoke' didn't change, skipping" in third


def test_the_second_of_two_runs_of_the_graph_finds_everything_done(project):
    whole = content(project.at("models"))
    forget(project, "direction")
    both = [start(project, "pipeline", "repro", "direction") for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(text.count("Running stage 'direction@tiny-smoke'") for text in said) == [0, 1]
    assert content(project.at("models")) == whole


def test_two_workspaces_fill_one_cache_folder_and_end_with_the_same_bytes_after_both_were_killed(tmp_path):
    cache = tmp_path / "cache"
    projects = [Project(tmp_path / name) for name in ("one", "two")]
    for each in projects:
        each.params(overrides=f"fetch.cache={cache}")
    first, _ = stopped(projects[0], "*/cache/random/.*tmp-*/*", "pipeline", "repro", "engine")
    second = start(projects[1], "pipeline", "repro", "engine")
    hear(second, f"which makes {cache / 'random'}")
    stop.kill(second, os.killpg)
    stop.kill(first, os.killpg)
    assert list(cache.glob("random/.*tmp-*/*"))
    again = [start(each, "pipeline", "repro", "engine") for each in projects]
    said = [process.communicate()[0] for process in again]
    assert [process.returncode for process in again] == [0, 0], said
    [folder] = (cache / "random").iterdir()
    assert (folder / "config.json").exists()
    one, two = ({name: made for name, made in each.outs().items() if "engine" not in name} for each in projects)
    assert one == two != {}


def test_one_process_fills_a_folder_and_the_other_finds_it(tmp_path, monkeypatch):
    folder, inside, go = tmp_path / "model", threading.Event(), threading.Event()
    said = SimpleQueue()
    monkeypatch.setattr(locks, "note", said.put)
    calls = []

    def write(target):
        calls.append(target)
        inside.set()
        assert go.wait(60)
        (target / "config.json").write_text("{}")

    (tmp_path / ".model.tmp-killed").mkdir()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(locks.publish_folder, folder, write)
        assert inside.wait(60)
        second = pool.submit(locks.publish_folder, folder, write)
        assert said.get(timeout=60).startswith("waiting for process")
        assert not second.done()
        go.set()
        assert first.result(60) == second.result(60) == folder
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == [folder]


def test_a_lock_goes_with_its_process_and_leaves_no_file(tmp_path):
    lock = tmp_path / "lock"
    code = f"""
import sys, time
from pathlib import Path
from pipeline.disk.locks import only_writer
with only_writer(Path({str(lock)!r}), "sleeps"):
    print("held", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    assert lock.read_text() == str(process.pid)
    assert locks.is_held(lock)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert lock.exists()
    assert not locks.is_held(lock)
    with locks.only_writer(lock, "tests") as waited:
        assert not waited
        assert lock.read_text() == str(os.getpid())
    assert not lock.exists()
