"""Too little memory: one line before a stage starts where that can be known, and one where it runs out later."""

import os
import resource

from pipeline.display import plain
from pipeline.errors import UserError, first_line
from pipeline.model.loading.machine import free_main_memory

GIB = 2**30
# What libraries take before a stage has read anything; the hungriest, capability, had 0.6 GiB in memory and mapped 2.7.
MEMORY, ADDRESSES, ADDRESSES_PER_CORE = 0.75 * GIB, 3.75 * GIB, GIB / 8
REMEDY = "lower engine.max_batch_tokens, set engine.dtype=bfloat16, or take a smaller profile"


def require_memory() -> None:
    """Raises UserError where a stage could not even load its libraries, which some of them end by a crash.

    What a model needs is asked when its weights are placed (`pipeline.model.loading.placement`).
    """
    addresses = ADDRESSES + ADDRESSES_PER_CORE * (os.cpu_count() or 1)  # each core's thread has a stack and a heap
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < addresses:
        raise UserError(
            f"a stage needs {addresses / GIB:.2f} GiB of address space to start and the limit is {limit / GIB:.2f}"
            " GiB: raise it (`ulimit -v unlimited`, or the batch system's limit on virtual memory)"
        )
    if (free := free_main_memory()) < MEMORY:
        raise UserError(
            f"a stage needs {MEMORY / GIB:.2f} GiB of memory to start and {free / GIB:.2f} GiB are free: close other "
            "programs, or raise the limit of the container or the batch system"
        )


def ran_out(error: BaseException) -> str:
    """What is said when memory ran out in mid-stage."""
    return plain(
        f"memory ran out ({first_line(error)}), {free_main_memory() / GIB:.2f} GiB are free: free more, lower "
        f"memory.limits, {REMEDY}; the same command goes on where it stopped"
    )
