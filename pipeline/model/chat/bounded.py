"""What a stranger wrote, tried out in a process of its own, bounded in time and memory."""

import os
import signal
import sys
import time
from collections.abc import Callable

import psutil

ENDED, TOO_LARGE = 0, 3
SECONDS, MEBIBYTES = 8.0, 1024


def unbounded(call: Callable[[], object], seconds: float = SECONDS, mebibytes: int = MEBIBYTES) -> str:
    """Why `call` does not end within its bounds; empty when it does, be it with an error of its own.

    It runs in a fork, so whatever it changes is gone. Where there is no fork nothing is tried, and nothing bounded.
    """
    if sys.platform != "linux":  # macOS forks, but its libraries do not bear it
        return ""
    pid = os.fork()
    if pid == 0:
        _run_and_exit(call, seconds, mebibytes)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return _said(status, seconds, mebibytes)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return _too_long(seconds)


def _run_and_exit(call: Callable[[], object], seconds: float, mebibytes: int) -> None:
    status = ENDED
    try:
        _limit(seconds, mebibytes)
        call()
    except MemoryError:
        status = TOO_LARGE
    except BaseException:  # its own errors come again, and are told, where it is not bounded
        status = ENDED
    finally:
        os._exit(status)  # nothing of the parent's is flushed or closed twice


def _limit(seconds: float, mebibytes: int) -> None:
    import resource  # not on Windows

    have = psutil.Process().memory_info().vms
    wanted = {
        resource.RLIMIT_AS: have + mebibytes * 2**20,
        resource.RLIMIT_CPU: max(1, int(seconds)),
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, hard))


def _said(status: int, seconds: float, mebibytes: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return _too_long(seconds) if number == signal.SIGXCPU else f"it ends the process by signal {number}"
    return f"it takes more than {mebibytes} MiB" if os.WEXITSTATUS(status) == TOO_LARGE else ""


def _too_long(seconds: float) -> str:
    return f"it takes more than {seconds:g} s"
