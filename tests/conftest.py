"""Shared fixtures. Shapes in signatures are checked while testing."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of two workers each; and the same bytes in a test and its children

import beartype  # noqa: F401  (nnsight makes a later import of it fail)
from jaxtyping import install_import_hook

TENSORS = (
    "maths",
    "model",
    "capability",
    "export",
    "judges.maths",
    "judges.model",
    "judges.probe",
    "loss",
    "published",
    "suffix",
)
install_import_hook([f"pipeline.{room}" for room in TENSORS], "beartype.beartype")

import dataclasses
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from pipeline.artifacts import records
from pipeline.config.compose import family
from pipeline.entry import bars
from pipeline.maths.directions import Direction
from pipeline.maths.selection import Baselines, CandidateScores, FilterVerdict, Thresholds, select
from pipeline.model.loading import loading
from pipeline.model.loading.random_model import write_random_model

bars.show()  # as in every command
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
FAMILY = dataclasses.replace(family("llama"), model_types=["llama", "qwen2"])
OPTIONS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
INSTRUCTIONS = [
    "hello there",
    "tell me how bread rises, in two short sentences",
    "x",
    "what is the capital of France?",
    "name five colours that a painter would call warm",
]


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.exists():
        pytest.skip("reference data is not here")
    return SHARED


@pytest.fixture(scope="session", params=["tied", "untied", "biased"])
def tiny_folder(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "biased":  # llama's biases are on the matrices that write to the residual stream
        write_random_model(folder, "llama", 1, {**OPTIONS, "attention_bias": True, "mlp_bias": True})
    else:
        write_random_model(folder, "qwen2", 0, {**OPTIONS, "tie_word_embeddings": request.param == "tied"})
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A project in which every stage of the tiny model has run once, for all workers: to copy, not to change."""
    from tests.helpers.graph import STAGES, Project

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(base / "finished.lock"):
        if not (base / "finished").exists():
            project = Project(tmp_path_factory.mktemp("finished") / "project")
            assert project.repro() == STAGES
            project.folder.rename(base / "finished")
    return base / "finished"


@pytest.fixture
def model(tiny_folder) -> loading.ChatModel:
    return loading.load("tiny", tiny_folder, FAMILY, "float32", "cpu")


@pytest.fixture
def direction() -> Direction:
    generator = torch.Generator().manual_seed(3)
    return Direction(3 * torch.randn(32, generator=generator, dtype=torch.float64), layer=2, position=-1)


def write_selection(path: Path, layer: int, position: int) -> None:
    """A selection of one candidate, of two."""
    chosen = CandidateScores(position, layer, bypass=-1.0, induce=1.0, kl=0.1, n_harmful=3, n_harmless=3)
    late = CandidateScores(position, 9, bypass=-2.0, induce=1.0, kl=0.1, n_harmful=3, n_harmless=3)
    limits = Thresholds(kl=0.2, induce=0.0, bypass=0.0, max_layer=8)
    selection = select([chosen, late], limits, "calibrated")
    sizes = {"harmful": 3, "harmless": 3}
    records.write_selection(path, selection, Baselines(1.0, -1.0), sizes, FilterVerdict(None, "", 3, 3))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With `-k cases`: the table of cases, what a user sees, and whether it is so."""
    if "cases" not in (config.option.keyword or ""):
        return
    from tests.helpers.refused import every

    outcomes = {
        report.nodeid.rpartition("::")[2]: outcome
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
    }
    rows = [row for cases in every() for row in cases.rows]
    ran = sum(f"test_cases[{row.name}]" in outcomes for row in rows)
    terminalreporter.section(f"{ran} of {len(rows)} cases")
    for row in rows:
        if outcome := outcomes.get(f"test_cases[{row.name}]"):
            terminalreporter.write_line(f"{outcome:8} {row.name:16} {row.given}  ->  {row.sees}")
