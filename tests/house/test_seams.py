"""dvc.yaml names what each stage uses, and a stage loads no library that it does not need."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.artifacts.layout import CODE
from tests.conftest import ROOT

PIPELINE = ROOT / "pipeline"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SHARED = (
    "answering",
    "estimating",
    "instructions",
    "sampling",
    "safety",
    "test_scores",
    "train",
    "validation",
)  # of pipeline/stages/shared: have a say in results


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def shared_by(entry: Path) -> list[Path]:
    """Modules of pipeline/stages/shared that a stage uses, or that these use, and that have a say in results."""
    names = [name for name in SHARED if f"pipeline.stages.shared.{name}" in imports_of(entry)]
    paths = [PIPELINE / "stages" / "shared" / f"{name}.py" for name in names]
    return list(dict.fromkeys([*paths, *(inner for path in paths for inner in shared_by(path))]))


def used_by(entry: Path) -> set[str]:
    """What a stage imports, itself and through the modules that stages share."""
    return set().union(*map(imports_of, [entry, *shared_by(entry)]))


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "code"])
def test_a_stage_depends_on_the_hash_of_its_code_and_names_no_code_besides(stage):
    params = {path: keys for each in STAGES[stage]["params"] if isinstance(each, dict) for path, keys in each.items()}
    assert params[str(CODE)] == [f"stages.{stage}"]
    assert not [dep for dep in STAGES[stage].get("deps", []) if dep.startswith("pipeline") and "/data" not in dep]


def keys_read(path: Path) -> set[str]:
    """First-level configuration keys that a stage module reads as attributes of `config`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config"
    }


@pytest.mark.parametrize(
    "stage", [name for name in STAGES if name not in ("code", "compose", "golden", "report", "seal")]
)
def test_params_name_the_keys_that_a_stage_reads(stage):
    entry = PIPELINE / "stages" / f"{stage}.py"
    read = set().union(*map(keys_read, [entry, *shared_by(entry)]))
    if "pipeline.entry.model.open_model" in used_by(entry):
        read |= {"model", "engine"}
    if "pipeline.entry.model.model_folder" in used_by(entry):
        read |= {"model"}
    if "pipeline.artifacts.provenance.provenance" in imports_of(entry):
        read |= set(importlib.import_module(f"pipeline.stages.{stage}").READ)
    if "pipeline.entry.judging.Panel" in used_by(entry):
        read |= keys_read(PIPELINE / "entry" / "judging.py")
    _, params = STAGES[stage]["params"]
    declared = {key.split(".")[0] for key in next(iter(params.values()))}
    assert declared == read - {"fetch", "memory"}


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in ("code", "compose", "engine")])
def test_a_stage_that_reads_the_engine_takes_its_dtype_from_the_stage_that_settles_it(stage):
    declared = [key for params in STAGES[stage]["params"] for keys in params.values() for key in keys]
    settled = "outputs/models/${item.model}/${item.run}/engine.json" in STAGES[stage].get("deps", [])
    assert settled == ("engine" in declared)


HEAVY = {
    "concept_erasure",
    "datasets",
    "hydra",
    "lm_eval",
    "matplotlib",
    "nnsight",
    "pandas",
    "scipy.stats",
    "sklearn",
    "statsmodels",
    "torch",
    "transformers",
}
# Loaded with a stage's module, since it has always work for them; any other stage loads a library where it uses it.
NEEDED = {
    "activations": {"nnsight", "torch", "transformers"},
    "completions": {"torch", "transformers"},
    "figures": {"matplotlib"},
    "refusal_tokens": {"torch", "transformers"},
}


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sorted(set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return HEAVY & set(loaded.stdout.split())


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "code"])
def test_a_stage_loads_no_heavy_library_that_it_does_not_need(stage):
    assert loaded_by(f"pipeline.stages.{stage}") == NEEDED.get(stage, set())


def test_configurations_and_records_are_read_without_a_heavy_library():
    light = ("artifacts", "config", "disk", "results", "sources")
    paths = [path for room in light for path in (PIPELINE / room).glob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    heavy = ("config.compose", "config.overrides", "disk.checkpoint", "sources.rows")  # Hydra, torch, datasets
    assert loaded_by("pipeline.entry.model", *sorted(names - {f"pipeline.{name}" for name in heavy})) == set()
