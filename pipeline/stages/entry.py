"""How every stage starts: its model, its configuration, its paths, and its errors on one line."""

import argparse
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

import platformdirs
import psutil

from pipeline.artifacts.layout import Layout
from pipeline.config.compose import load
from pipeline.config.schema import Config
from pipeline.errors import UserError

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # parameters of glibc's mallopt


def guarded(main: Callable[[], None]) -> None:
    """Run `main`; a UserError ends the process with one line and status 1, no traceback."""
    quiet_libraries()
    keep_freed_memory()
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on where it stopped")


def run_stage(stage: Callable[[Config, Layout], None]) -> None:
    """Run one stage for the model named on the command line."""
    module = sys.modules[stage.__module__]
    parser = argparse.ArgumentParser(description=module.__doc__)
    parser.add_argument("model", help="name of a file in conf/model/")
    layout = Layout(parser.parse_args().model)
    guarded(lambda: _timed(stage, load(layout.config), layout))


def _timed(stage: Callable[[Config, Layout], None], config: Config, layout: Layout) -> None:
    """Run it, and note what it cost where `make bench` finds it; a stage that fails notes nothing."""
    stage(config, layout)
    torch = sys.modules.get("torch")  # not imported for this: many stages do without
    cost = {
        "stage": Path(sys.modules[stage.__module__].__file__ or "").stem,
        "seconds": time.time() - psutil.Process().create_time(),  # imports are part of what a user waits for
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "gpu_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if torch and torch.cuda.is_available() else 0.0,
    }
    layout.costs.parent.mkdir(parents=True, exist_ok=True)
    with layout.costs.open("a") as file:
        file.write(json.dumps(cost) + "\n")


def cache_folder(config: Config) -> Path:
    """Where downloads and converted models are kept between runs and clones."""
    return Path(config.fetch.cache or platformdirs.user_cache_dir("refusal-direction")).expanduser()


def mirror_folder(config: Config) -> Path | None:
    """A local folder tried before any network place."""
    return Path(config.fetch.mirror).expanduser() if config.fetch.mirror else None


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
    for name in ("transformers", "nnsight", "huggingface_hub", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
