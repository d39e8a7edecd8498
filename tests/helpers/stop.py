"""A process that is stopped at a point of its work, so that what a test does to it then races with nothing."""

import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

STOPS = Path(__file__).parent / "stops"
LONGEST = 300  # seconds until a process has stopped


def stopped(command: Sequence[str], pattern: str, after: int, **how: Any) -> tuple[subprocess.Popen, int]:
    """The process, and the number of the one of its children, or of itself, that has stopped.

    It stops (SIGSTOP, so that SIGCONT lets it go on) before it opens a file that `pattern` matches for writing, `after`
    such openings apart. Fails when it ends before.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        os.mkfifo(said)
        heard = os.open(said, os.O_RDONLY | os.O_NONBLOCK)
        stop = json.dumps({"pattern": pattern, "after": after, "said": str(said)})
        environment = {**os.environ, **how.pop("env", {}), "STOPS_AT": stop, "PYTHONPATH": str(STOPS)}
        process = subprocess.Popen(command, env=environment, **how)
        try:
            waiting = select.poll()
            waiting.register(heard, select.POLLIN)
            number = os.read(heard, 32) if waiting.poll(LONGEST * 1000) else b""
            if not number:  # all that might have stopped have ended, or it takes too long
                process.kill()
            assert number, f"not stopped: {process.wait()}"
        finally:
            os.close(heard)
    return process, int(number)


def killed(command: Sequence[str], pattern: str, after: int, **how: Any) -> None:
    """The process, killed where it has stopped."""
    process, _ = stopped(command, pattern, after, **how)
    kill(process)


def kill(process: subprocess.Popen, how: Callable[[int, int], None] = os.kill) -> None:
    """The process ends, of nothing but this."""
    how(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
