"""Runs stages of the project in the working folder, each in a fork: what they import is loaded once.

A line of standard input is JSON: {stage, readers_alone}, the second to leave out the comparison with what earlier
stages noted. The answer is one line of JSON: {error} of a UserError, {traceback} of anything
else, {} of a stage that ends well. Started by tests with the project's folder as working folder.
"""

import importlib
import io
import json
import os
import signal
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout

from pipeline.entry import program as entry
from pipeline.errors import UserError

LONGEST = 120  # seconds of a stage
LOADED = (
    *("concept_erasure", "lm_eval", "matplotlib.pyplot", "nnsight", "pandas", "scipy.stats", "sklearn.linear_model"),
    *(
        "statsmodels.api",
        "torch",
        "transformers",
        "pipeline.model.passes.scoring",
        "pipeline.model.generation.generation",
    ),
    *(
        "pipeline.capability.model",
        "pipeline.export.model.proof",
        "pipeline.loss.model",
        "pipeline.suffix.model.analysis",
    ),
)


def outcome(stage: str, model: str, run: str) -> dict[str, str]:
    """What a user would see of a stage."""
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            entry.run_stage(getattr(importlib.import_module(f"pipeline.stages.{stage}"), stage), model, run)
    except UserError as error:
        return {"error": str(error)}
    except BaseException:
        return {"traceback": traceback.format_exc()}
    return {}


def main() -> None:
    """Answer until the input ends."""
    model, run, *stages = sys.argv[1:]
    entry.quiet_libraries()
    for name in (*LOADED, *(f"pipeline.stages.{stage}" for stage in stages)):
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.flush()
        if not (child := os.fork()):
            signal.alarm(LONGEST)
            asked = json.loads(line)
            if asked["readers_alone"]:
                entry.require_as_written = lambda stage, layout: None
            print(json.dumps(outcome(asked["stage"], model, run)), flush=True)
            os._exit(0)
        if status := os.waitpid(child, 0)[1]:
            print(json.dumps({"traceback": f"ended with status {status}"}), flush=True)


if __name__ == "__main__":
    main()
