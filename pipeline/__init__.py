"""Measure whether refusal in a chat model is mediated by a single direction (Arditi et al. 2024)."""

# Whatever is started, this runs first, and maybe under a Python that lacks the libraries and is too old for the rest.
import sys

LIBRARIES = ("dvc", "hydra", "psutil", "safetensors", "torch", "transformers")


def _require_environment():  # noqa: ANN202
    """End the process with one line where `python` is not the one that the project was set up with."""
    lacks = ["Python 3.11"]
    if sys.version_info >= (3, 11):  # noqa: UP036
        from importlib.util import find_spec

        lacks = [name for name in LIBRARIES if find_spec(name) is None]
    if lacks:
        sys.exit(
            "error: `python` is " + str(sys.executable) + ", which lacks " + ", ".join(lacks) + ": run `make setup` "
            "once and `source .venv/bin/activate` in each shell, or start with `make repro`, which needs neither"
        )


_require_environment()
