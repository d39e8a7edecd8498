"""A stage's code is all that it can reach: what of it changes is named, for each stage that reaches it and no other."""

import ast
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.graph import closure
from tests.conftest import ROOT

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(2**32))
RUNNER = (
    "commands/golden",
    "graph/closure",
    "graph/fresh",
    "graph/kept",
    "graph/repro",
    "graph/shown",
    "graph/written",
)
RUNNER += ("entry/arguments", "entry/bars", "entry/program", "entry/shortage", "entry/surroundings", "stages/__main__")
STAGES = closure.stages(ROOT)
CLOSURES = {stage: closure.closure(f"pipeline.stages.{stage}", ROOT) for stage in STAGES}
REACHED = sorted(set().union(*CLOSURES.values()))


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__", "data"))
    for name in ("dvc.yaml", *closure.PINNED):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def moved(before, after):
    return {stage for stage in STAGES if before["stages"][stage] != after["stages"][stage]}


def reaching(path):
    return {stage for stage in STAGES if path in CLOSURES[stage]}


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef)]


def test_a_changed_function_moves_the_stages_that_reach_it_and_no_other(copy):
    print(f"FUZZ_SEED={SEED}", file=sys.stderr)
    draw = random.Random(SEED)
    before = closure.record(copy)
    for path in draw.sample([path for path in REACHED if functions(copy / path)], 20):
        kept = (copy / path).read_text()
        first = draw.choice(functions(copy / path)).body[0]
        lines = kept.splitlines(keepends=True)
        lines.insert(first.lineno - 1, " " * first.col_offset + "print()\n")
        (copy / path).write_text("".join(lines))
        assert moved(before, closure.record(copy)) == reaching(path) != set(), path
        (copy / path).write_text(kept)
    assert closure.record(copy) == before


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("pipeline/artifacts/prompt_scores.py", "import", "# a control is cut out\nimport"),
        ("pipeline/judges/maths/linear_probe.py", "\nimport numpy", "\n# everything is safe\nimport numpy"),
        ("pipeline/entry/given.py", 'read_record(layout.engine, Settled)["dtype"]', '"float32"'),
    ],
)
def test_what_was_once_missed_moves_a_stage(copy, path, before, after):
    old = closure.record(copy)
    text = (copy / path).read_text()
    assert before in text
    (copy / path).write_text(text.replace(before, after, 1))
    assert moved(old, closure.record(copy)) == reaching(path) != set()


def test_what_starts_a_stage_or_shows_progress_moves_none(copy):
    before = closure.record(copy)
    for name in RUNNER:
        path = copy / f"pipeline/{name}.py"
        path.write_text(path.read_text().replace("left", "to go") + "\n# a comment\n")
        assert f"pipeline/{name}.py" not in REACHED
    assert closure.record(copy) == before


def test_another_locked_version_moves_the_stages_that_use_it(copy):
    before = closure.record(copy)
    for name, library in (("pyproject.toml", "torch"), ("requirements.lock", "tokenizers")):
        path = copy / name
        kept = path.read_text()
        path.write_text(kept.replace(f"{library}==", f"{library}==9."))
        assert moved(before, closure.record(copy)) >= {"activations", "completions", "export"}
        path.write_text(kept)
    lock = copy / "requirements.lock"
    lock.write_text(lock.read_text().replace("ruff==", "ruff==9."))
    assert closure.record(copy) == before


def test_code_is_found_by_no_other_way():
    """A module that is named in a text is one that no closure sees."""
    for path in REACHED:
        nodes = list(ast.walk(ast.parse((ROOT / path).read_bytes())))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert not {"__import__", "import_module", "importlib", "exec", "eval"} & names, path


def test_one_stage_composes_and_the_others_read_what_it_wrote():
    assert {stage for stage in STAGES if "pipeline/config/compose.py" in CLOSURES[stage]} == {"compose"}
    assert not [path for path in REACHED if "conf" in constants(path) and path not in CLOSURES["compose"]]


def constants(path: str) -> set[str]:
    nodes = ast.walk(ast.parse((ROOT / path).read_bytes()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_a_closure_holds_every_module_of_ours_that_python_loads():
    """Against Python itself: whatever importing a stage's module loads."""
    for stage in ("direction", "completions", "figures", "suffix"):
        code = f"import sys, pipeline.stages.{stage}; print(*(m for m in sys.modules if m.startswith('pipeline')))"
        loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        files = {str(path.relative_to(ROOT)) for name in loaded.stdout.split() for path in closure.files_of(name, ROOT)}
        assert files <= set(CLOSURES[stage])


def test_a_stage_without_code_and_code_that_is_none_are_one_line(copy):
    graph = copy / "dvc.yaml"
    graph.write_text(graph.read_text() + "\n  nothing:\n    cmd: x\n")
    with pytest.raises(UserError, match=r"stage 'nothing' of dvc\.yaml has no module"):
        closure.record(copy)
    shutil.copy(ROOT / "dvc.yaml", graph)
    (copy / "pipeline/stages/direction.py").write_text("def (")
    with pytest.raises(UserError, match=r"direction\.py is no Python"):
        closure.record(copy)
