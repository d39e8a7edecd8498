"""Python that has loaded the libraries: what a test starts by `python()` runs in a fork of it, seconds sooner.

The fork runs `python -m MODULE ...` as a process of its own would: its folder, environment, streams, exit status and
coverage. What it cannot show is how a process begins; tests of that, and of kills, start Python itself.
"""

import atexit
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import coverage

LOADED = (
    *("concept_erasure", "dvc.cli.parser", "dvc.repo", "hydra", "lm_eval", "matplotlib.figure"),
    *("nnsight", "pandas", "pydantic", "rich.console", "scipy.stats", "sklearn.linear_model", "statsmodels.api"),
    *("torch", "transformers", "transformers.models.auto.modeling_auto", "transformers.generation.utils"),
)
COUNTED = "TESTS_COUNT_COVERAGE"
ROOT = Path(__file__).resolve().parents[2]
# Of the environment, that no library reads when it is loaded; the last two scikit-learn writes, in the fork as well.
OF_A_TEST = (COUNTED, "PYTEST_CURRENT_TEST", "PATH", "PYTHONPATH", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")
SHIM = """#!{python} -SEs
import json, os, socket, sys
if sys.argv[1:2] != ["-m"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
asked = json.dumps({{"argv": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
server.sendall(asked)
ended = int.from_bytes(server.recv(8), "big", signed=True)
if ended < 0:
    os.kill(os.getpid(), -ended)
sys.exit(ended)
"""


def python() -> str:
    """A `python` for the command line; Python itself where a library could have read the environment otherwise."""
    if not hasattr(os, "pidfd_open"):  # of Linux, where forks of loaded libraries are sound
        return sys.executable
    folder, _, _ = _started()
    if coverage.Coverage.current():
        os.environ[COUNTED] = "yes"
    return sys.executable if changed() else str(folder / "python")


def changed() -> set[str]:
    """What of the environment is neither as it was before the libraries were loaded, nor as they have written it."""
    _, before, after = _started()
    now = _read_by_libraries()
    return {name for name in {**before, **now} if now.get(name) not in (before.get(name), after.get(name))}


def _read_by_libraries(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in OF_A_TEST}


@cache
def _started() -> tuple[Path, dict[str, str], dict[str, str]]:
    """Where the shim is; the environment before the libraries were loaded, and after."""
    folder = Path(tempfile.mkdtemp(prefix="py-"))
    shim, address = folder / "python", str(folder / "socket")
    shim.write_text(SHIM.format(python=sys.executable, address=address))
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    command = [sys.executable, "-m", "tests.helpers.preloaded", address]
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.stdin.close)  # it ends with this process, however that ends
    ready = server.stdout.readline()
    assert ready, "what preloads libraries did not start"
    return folder, _read_by_libraries(), _read_by_libraries(json.loads(ready))


def serve(address: str) -> list[str]:
    """Answer until standard input ends; returns in each fork, with what it is to run."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    print(json.dumps(dict(os.environ)), flush=True)
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        caller, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            return _answer(caller)
        caller.close()


def _answer(caller: socket.socket) -> list[str]:
    """Start what was asked for, in a fork, and say how it ended; killed when the caller is."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(caller, 8, 3)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += caller.recv(2**16)
    asked = json.loads(text)
    child = os.fork()
    if child == 0:
        return _prepared(asked, streams, caller)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    ready, _, _ = select.select([caller, ended], [], [])
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if ended in ready:
        caller.sendall(code.to_bytes(8, "big", signed=True))
    os._exit(0)


def _prepared(asked: dict, streams: list[int], caller: socket.socket) -> list[str]:
    caller.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    if os.environ.pop(COUNTED, "") and asked["argv"][0] != "dvc":  # whose own code coverage makes twice as slow
        _count()
    return asked["argv"]


def _count() -> None:
    """Branch coverage of this process, beside that of the test."""
    counting = coverage.Coverage(
        ROOT / ".coverage" / "data", data_suffix=True, config_file=str(ROOT / "pyproject.toml")
    )
    counting.start()
    atexit.register(counting.save)
    atexit.register(counting.stop)


def load() -> None:
    """The libraries, as quiet as commands make them; nothing of the project, whose copies differ."""
    import importlib

    from pipeline.entry.program import quiet_libraries

    quiet_libraries()
    for name in LOADED:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("pipeline", "tests")]:
        del sys.modules[name]


if __name__ == "__main__":
    import runpy

    load()
    module, *arguments = serve(sys.argv[1])
    sys.argv = [module, *arguments]
    sys.path[0] = os.getcwd()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
