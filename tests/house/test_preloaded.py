"""A fork of loaded libraries ends as a process of its own would: no failure that a test waits for is lost in it."""

import os
import select
import signal
import subprocess
import sys

import pytest

from pipeline.entry.program import quiet_libraries
from tests.helpers import preloaded

ENDS = """
import os, sys
print(os.getcwd(), sys.argv[1:], os.environ["HERE"], sys.stdin.read())
print("torch" in sys.modules, file=sys.stderr)
{end}
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("sys.exit('said')", 1), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", -signal.SIGKILL)],
)
def test_it_ends_as_a_process_of_its_own(tmp_path, end, status):
    assert not preloaded.changed(), "some test has left the environment otherwise than it was"
    (tmp_path / "ends.py").write_text(ENDS.format(end=end))
    ended = []
    for python in (preloaded.python(), sys.executable):
        how = {"cwd": tmp_path, "env": {**os.environ, "HERE": "yes"}, "input": "asked", "text": True}
        ended.append(subprocess.run([python, "-m", "ends", "--one", "two"], capture_output=True, **how))
    fork, own = ended
    assert fork.returncode == own.returncode == status
    assert fork.stdout == own.stdout
    lines = [result.stderr.splitlines() for result in ended]
    assert (lines[0][0], lines[1][0]) == ("True", "False")
    assert lines[0][-1:] == (["True"] if len(lines[1]) == 1 else lines[1][-1:])


def test_what_a_command_writes_to_the_environment_changes_nothing(monkeypatch):
    shim = preloaded.python()
    for name in ("TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    quiet_libraries()
    assert preloaded.python() == shim != sys.executable
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert (preloaded.changed(), preloaded.python()) == ({"HF_HUB_OFFLINE"}, sys.executable)


def test_it_ends_with_who_started_it(tmp_path):
    (tmp_path / "waits.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    shim = subprocess.Popen([preloaded.python(), "-m", "waits"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert shim.stdout is not None
    number = int(shim.stdout.readline())
    ending = os.pidfd_open(number)
    shim.kill()
    shim.wait()
    assert select.select([ending], [], [], 30)[0], "what a killed process started goes on"
