"""The runs whose results are committed, or a word on why their numbers are not looked at."""

import pytest

from pipeline.artifacts.layout import Layout
from pipeline.config.params import read_params
from tests.conftest import ROOT

MODEL = "qwen2_5_coder_0_5b"
LABELS = ("quick", "standard")


def committed(label: str) -> Layout:
    """The layout of a committed run; skips the test where the workspace lacks its results."""
    layout = Layout(MODEL, label, ROOT)
    if not layout.metrics.exists():
        pytest.skip(f"no results of {MODEL}, {label} are here: make repro PROFILE={label}")
    return layout


def require_committed() -> None:
    """Skips the test where the workspace holds another run, or lacks one of those that are committed."""
    params = read_params(ROOT / "params.yaml")
    if (params.models, params.label in LABELS) != ([MODEL], True):
        named = f"{', '.join(params.models)} under {params.label}"
        pytest.skip(f"params.yaml names {named}: the committed numbers are of {MODEL} under {' and '.join(LABELS)}")
    for label in LABELS:
        committed(label)
