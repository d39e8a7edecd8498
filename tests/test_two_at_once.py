"""Two processes at the same work: one waits and says for whom; killed, one more run ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipeline.artifacts import locks
from tests.graph import RUN, Project

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
    with said.open("w") as out:
        return subprocess.Popen(command, cwd=project.folder, env=environment, stdout=out, stderr=out), said


def until(condition, processes):
    while not condition():
        assert any(process.poll() is None for process, _ in processes), [said.read_text() for _, said in processes]
        time.sleep(0.002)


def kill(processes):
    for process, _ in processes:
        os.kill(process.pid, signal.SIGKILL)
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


def test_a_lock_goes_with_its_process_and_leaves_no_file(tmp_path):
    lock = tmp_path / "lock"
    code = f"""
import sys, time
from pathlib import Path
from pipeline.artifacts.locks import only_writer
with only_writer(Path({str(lock)!r}), "sleeps"):
    print("held", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    assert lock.read_text() == str(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert lock.exists()
    with locks.only_writer(lock, "tests") as waited:
        assert not waited
        assert lock.read_text() == str(os.getpid())
    assert not lock.exists()
