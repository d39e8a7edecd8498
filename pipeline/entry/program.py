"""How every stage and command starts: quiet libraries, progress that is shown, and errors on one line."""

import ctypes
import json
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil

from pipeline.artifacts.layout import Layout
from pipeline.disk.locks import only_writer
from pipeline.entry.bars import show
from pipeline.entry.given import given
from pipeline.entry.shortage import ran_out
from pipeline.entry.surroundings import settle
from pipeline.errors import UserError, lacks_memory
from pipeline.graph.written import note_written, remove_outs, require_as_written

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # parameters of glibc's mallopt


def guarded(main: Callable[[], None]) -> None:
    """Run `main`; a UserError, or a lack of memory, ends the process with one line and status 1."""
    show()
    quiet_libraries()
    keep_freed_memory()
    try:
        settle()
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not lacks_memory(error):
            raise
        sys.exit(f"error: {ran_out(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on where it stopped")


def run_stage(stage: Callable[..., None], model: str, run: str) -> float:
    """Run one stage of a run, and return its seconds; notes what it cost where `make bench` finds it.

    A stage that fails notes nothing. Another process that runs the same stage here is waited for. Raises UserError for
    an input that is not what an earlier stage wrote.
    """
    layout = Layout(model, run)
    name = Path(sys.modules[stage.__module__].__file__ or "").stem
    with only_writer(layout.lock(name), f"runs stage {name}") as waited:
        require_as_written(name, layout)
        if waited and "DVC_STAGE" in os.environ:  # DVC has removed them, and that process made them again
            remove_outs(name, layout)
        stage(*given(name, layout))
        note_written(name, layout)
    torch = sys.modules.get("torch")  # not imported for this: many stages do without
    seconds = time.time() - psutil.Process().create_time()  # imports are part of what a user waits for
    cost = {
        "stage": name,
        "seconds": seconds,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "gpu_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if torch and torch.cuda.is_available() else 0.0,
    }
    layout.costs.parent.mkdir(parents=True, exist_ok=True)
    with layout.costs.open("a", encoding="utf-8") as file:
        file.write(json.dumps(cost) + "\n")
    return seconds


def keep_freed_memory() -> None:
    """Let glibc hand freed tensors out again instead of returning them to the system; elsewhere do nothing.

    On a CPU a fifth of a sweep's time is page faults of temporaries otherwise.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(MMAP_THRESHOLD, 32 * 2**20)  # the largest value that glibc takes
        mallopt(TRIM_THRESHOLD, 2**31 - 1)


def quiet_libraries() -> None:
    """Hide library chatter that a user can do nothing about."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)  # a box is drawn for it
    for name in ("transformers", "nnsight", "huggingface_hub", "httpx2", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
