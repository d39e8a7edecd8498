"""Too little memory is one line with its numbers: before a stage starts, where weights are placed, and in mid-stage."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.entry import shortage
from pipeline.entry.program import guarded
from pipeline.errors import UserError, lacks_memory
from pipeline.model.loading import machine
from pipeline.model.loading import placement as memory
from pipeline.model.loading.foreign import library_errors
from tests.conftest import ROOT
from tests.helpers.cases import fails, one_line

GIB = 2**30
OF_LIBRARIES = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
    ),
    RuntimeError("std::bad_alloc"),
    RuntimeError("can't start new thread"),
    ImportError("etree.so: failed to map segment from shared object"),
    OSError(12, "Cannot allocate memory"),
]
OTHERS = [
    RuntimeError("The size of tensor a (4) must match"),
    ValueError("memory"),
    OSError(2, "No such file"),
    KeyError("a"),
]


def ends(main) -> str:
    with pytest.raises(SystemExit) as caught:
        guarded(main)
    return one_line(str(caught.value), "")


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("stage", ["compose", "capability"])
def test_a_limit_below_what_libraries_map_is_refused_before_they_are_loaded(stage):
    command = f'ulimit -v 2097152; exec "{sys.executable}" -m pipeline.stages {stage} --model tiny --run smoke'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    fails(
        done, r"needs \d\.\d\d GiB of address space to start and the limit is 2\.00 GiB: raise it .*ulimit -v unlimited"
    )
    assert "loading torch" not in done.stderr


def test_memory_that_no_stage_starts_in_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(shortage, "free_main_memory", lambda: GIB)
    shortage.require_memory()
    monkeypatch.setattr(shortage, "free_main_memory", lambda: GIB // 2)
    with pytest.raises(UserError, match=r"needs 0\.75 GiB of memory to start and 0\.50 GiB are free: close other"):
        shortage.require_memory()


def test_what_is_free_is_the_least_of_machine_groups_and_address_space(monkeypatch):
    monkeypatch.setattr(machine, "free_in_groups", lambda: iter(()))
    monkeypatch.setattr(machine, "free_address_space", lambda: iter(()))
    alone = machine.free_main_memory()
    assert alone > 0, "no limit at all is none"
    monkeypatch.setattr(machine, "free_in_groups", lambda: iter([alone // 2]))
    assert machine.free_main_memory() == alone // 2
    monkeypatch.setattr(machine, "free_address_space", lambda: iter([alone // 4]))
    assert machine.free_main_memory() == alone // 4
    monkeypatch.setattr(machine, "free_address_space", lambda: iter([-1]))
    assert machine.free_main_memory() == 0


def test_what_is_mapped_already_counts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**50, 2**50))
    [left] = machine.free_address_space()
    assert 2**50 - 2**45 < left < 2**50
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert list(machine.free_address_space()) == []


def test_weights_that_fit_nowhere_are_refused_with_what_they_need(tiny_folder):
    empty = memory.skeleton(tiny_folder, torch.float32)
    with pytest.raises(
        UserError, match=r"the weights need 0\.\d\d GiB and no device has room .*0\.00 GiB on cpu.*engine"
    ):
        memory.plan(empty, tiny_folder, "cpu", memory.Memory({"cpu": 0.0}))


@pytest.mark.parametrize("error", OF_LIBRARIES, ids=str)
def test_running_out_is_one_line_that_says_what_to_lower_and_that_nothing_is_lost(error):
    line = ends(raising(error))
    for word in (
        "error: memory ran out",
        "GiB are free",
        "engine.max_batch_tokens",
        "memory.limits",
        "where it stopped",
    ):
        assert word in line
    with pytest.raises(type(error)), library_errors("the model does not load"):  # which is no fault of its file
        raise error


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_another_error_is_not_taken_for_a_lack_of_memory(error):
    with pytest.raises(type(error)):
        guarded(raising(error))


@pytest.mark.parametrize("take", [lambda: bytearray(2**60), lambda: torch.empty(2**50), lambda: np.empty(2**50)])
def test_the_libraries_still_say_it_in_these_words(take):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        take()
    assert lacks_memory(caught.value)
