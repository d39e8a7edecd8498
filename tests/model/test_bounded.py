"""A process of its own for what a stranger wrote: ended in time, held in memory, without a trace in this one."""

import os
import signal
import sys
import time

import pytest

from pipeline.model.chat.bounded import unbounded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is bounded where there is no fork")


def test_what_ends_is_let_through_whatever_it_raises():
    seen: list[int] = []
    assert unbounded(lambda: seen.append(1)) == ""
    assert seen == [], "it ran in another process"
    for call in (lambda: 1 / 0, lambda: sys.exit(7), lambda: [].pop()):
        assert unbounded(call) == ""


def test_what_does_not_end_is_ended():
    start = time.monotonic()
    assert unbounded(lambda: time.sleep(60), seconds=0.3) == "it takes more than 0.3 s"
    assert time.monotonic() - start < 5


def test_what_takes_memory_is_told():
    assert unbounded(lambda: bytearray(2**33), mebibytes=256) == "it takes more than 256 MiB"


def test_what_crashes_is_told():
    assert unbounded(lambda: os.kill(os.getpid(), signal.SIGKILL)) == f"it ends the process by signal {signal.SIGKILL}"
