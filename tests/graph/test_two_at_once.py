"""Two processes at the same work: one waits and says for whom; killed, one more run ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from pipeline.disk import locks
from tests.helpers.graph import RUN, Project

MADE_BY = {  # stages that keep what is unfinished: what they make
    "scores": "scores",
    "completions": "completions",
    "loss": "loss.json",
    "capability": "capability",
    "export": "export",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    built = Project(tmp_path_factory.mktemp("project"))
    built.repro(*(f"{stage}@tiny-{RUN}" for stage in MADE_BY))
    return built


def start(project, name, *arguments):
    """A process, and the file that has what it says."""
    said = project.folder / f"said-{time.monotonic_ns()}.txt"
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", name, *arguments]
    with said.open("w") as out:  # a group of its own: what it starts in turn is killed with it, where a test says so
        process = subprocess.Popen(
            command, cwd=project.folder, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    return process, said


def until(condition, processes):
    while not condition():
        assert any(process.poll() is None for process, _ in processes), [said.read_text() for _, said in processes]
        time.sleep(0.002)


def kill(processes, how=os.kill):
    for process, _ in processes:
        how(process.pid, signal.SIGKILL)
    for process, _ in processes:
        process.wait()


def content(path):
    found = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each): each.read_bytes() for each in found}


@pytest.mark.parametrize("stage", MADE_BY)
def test_two_processes_on_one_stage_killed_leave_what_one_more_run_ends_as_always(project, stage):
    made, partial = project.at("models") / MADE_BY[stage], project.folder / "outputs/partial"
    whole = content(made)
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    both = [start(project, "pipeline.stages", stage, "--model", "tiny", "--run", RUN) for _ in range(2)]

    waits = [f"waiting for process {process.pid}, which runs stage {stage}" for process, _ in both]

    def waiting():
        return any(line in said.read_text() for line in waits for _, said in both)

    until(lambda: waiting() and list(partial.glob(f"{stage}-*")), both)
    kill(both)
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
    both = [start(project, "pipeline", "repro", "scores") for _ in range(2)]
    waits = [f"waiting for process {process.pid}, which runs the graph here" for process, _ in both]
    until(lambda: any(line in said.read_text() for line in waits for _, said in both), both)
    until(lambda: running.exists() and running.read_text(), both)
    stage = int(running.read_text())
    os.kill(stage, signal.SIGSTOP)
    try:
        kill(both)
        (project.folder / ".dvc/tmp/rwlock").write_text('{"write": {')  # DVC was killed while it wrote it
        again = start(project, "pipeline", "repro", "scores")
        until(lambda: f"waiting for process {stage}, which runs stage scores" in again[1].read_text(), [again])
        assert again[0].poll() is None
    finally:
        os.kill(stage, signal.SIGCONT)
    assert again[0].wait() == 0, again[1].read_text()
    assert content(made) == whole != {}
    assert not list(running.parent.iterdir())
    third = project.module("pipeline", "repro", "scores").stdout
    assert "Stage 'scores@tiny-smoke' didn't change, skipping" in third


def test_the_second_of_two_runs_of_the_graph_finds_everything_done(project):
    whole = content(project.at("models"))
    forget(project, "direction")
    both = [start(project, "pipeline", "repro", "direction") for _ in range(2)]
    assert [process.wait() for process, _ in both] == [0, 0], [said.read_text() for _, said in both]
    ran = [said.read_text().count("Running stage 'direction@tiny-smoke'") for _, said in both]
    assert sorted(ran) == [0, 1]
    assert content(project.at("models")) == whole


def test_two_workspaces_fill_one_cache_folder_and_end_with_the_same_bytes_after_both_were_killed(tmp_path):
    cache = tmp_path / "cache"
    projects = [Project(tmp_path / name) for name in ("one", "two")]
    for each in projects:
        each.params(overrides=f"fetch.cache={cache}")
    both = [start(each, "pipeline", "repro", "engine") for each in projects]
    until(lambda: list(cache.glob("random/.*tmp-*/*")), both)
    kill(both, os.killpg)
    assert list(cache.glob("random/.*tmp-*"))
    again = [start(each, "pipeline", "repro", "engine") for each in projects]
    assert [process.wait() for process, _ in again] == [0, 0], [said.read_text() for _, said in again]
    [folder] = (cache / "random").iterdir()
    assert (folder / "config.json").exists()
    one, two = ({name: made for name, made in each.outs().items() if "engine" not in name} for each in projects)
    assert one == two != {}


def test_one_process_fills_a_folder_and_the_other_finds_it(tmp_path):
    folder, inside, go = tmp_path / "model", threading.Event(), threading.Event()
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
        time.sleep(0.2)
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
