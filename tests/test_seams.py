"""The layout holds: who may import what, and dvc.yaml names what each stage uses."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PIPELINE = ROOT / "pipeline"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Imported by every entry point, without a say in any result: a change there re-runs nothing.
PLUMBING = {
    "pipeline/__init__.py",
    "pipeline/artifacts",
    "pipeline/config",
    "pipeline/arguments.py",
    "pipeline/errors.py",
    "pipeline/progress.py",
    "pipeline/stages",
}


SHARED = ("answering", "instructions", "safety", "validation")  # modules of pipeline/stages that have a say in results


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def shared_by(entry: Path) -> list[Path]:
    """Modules of pipeline/stages that a stage uses and that have a say in results."""
    return [PIPELINE / "stages" / f"{name}.py" for name in SHARED if f"pipeline.stages.{name}" in imports_of(entry)]


def used_by(entry: Path) -> set[str]:
    """What a stage imports, itself and through the modules that stages share."""
    return set().union(*map(imports_of, [entry, *shared_by(entry)]))


def top_modules(entry: Path) -> set[Path]:
    """Modules at the top of pipeline/ that a stage uses, also through one another: each is a dep of its own."""
    found, new = set(), {entry, *shared_by(entry)}
    while new:
        paths = {path for name in set().union(*map(imports_of, new)) if (path := module_path(name))}
        new = {path for path in paths if path.parent == PIPELINE and unit(path) not in PLUMBING} - found
        found |= new
    return found


def module_path(name: str) -> Path | None:
    base = ROOT / name.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def unit(path: Path) -> str:
    """The package of a module, or the module itself at the top level: what dvc.yaml lists."""
    relative = path.relative_to(ROOT)
    return "/".join(relative.parts[:2])


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_the_packages_that_a_stage_calls(stage):
    entry = PIPELINE / "stages" / f"{stage}.py"
    # stages/models.py is how a stage opens a model; only stages that do depend on pipeline/model.
    direct = {unit(path) for name in used_by(entry) if (path := module_path(name))} | set(map(unit, top_modules(entry)))
    if "pipeline.stages.models.open_model" in used_by(entry):
        direct.add("pipeline/model")
    declared = {
        dep for dep in STAGES[stage]["deps"] if dep.startswith("pipeline") and not dep.startswith("pipeline/data")
    }
    own = f"pipeline/stages/{stage}.py"
    assert own in declared, "a stage depends on its own code"
    shared = {str(path.relative_to(ROOT)) for path in shared_by(entry)}
    assert declared & {f"pipeline/stages/{name}.py" for name in SHARED} == shared, "shared code of stages that counts"
    declared -= {own, *shared, "pipeline/model/chatformat.py", "pipeline/model/family.py", "pipeline/prompts/spec.py"}
    assert direct - PLUMBING - declared == set(), "imported, not declared"
    assert declared - direct == set(), "declared, not imported"


def keys_read(path: Path) -> set[str]:
    """First-level configuration keys that a stage module reads as attributes of `config`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config"
    }


@pytest.mark.parametrize("stage", [name for name in STAGES if "params" in STAGES[name] and name != "compose"])
def test_params_name_the_keys_that_a_stage_reads(stage):
    entry = PIPELINE / "stages" / f"{stage}.py"
    read = set().union(*map(keys_read, [entry, *shared_by(entry)]))
    if "pipeline.stages.models.open_model" in used_by(entry):
        read |= {"model", "engine"}
    if "pipeline.stages.models.model_folder" in used_by(entry):
        read |= {"model"}
    if "pipeline.artifacts.provenance.provenance" in imports_of(entry):
        read |= set(importlib.import_module(f"pipeline.stages.{stage}").READ)
    [params] = STAGES[stage]["params"]
    declared = {key.split(".")[0] for key in next(iter(params.values()))}
    assert declared == read - {"fetch", "memory"}


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in ("compose", "engine")])
def test_a_stage_that_reads_the_engine_takes_its_dtype_from_the_stage_that_settles_it(stage):
    declared = [key for params in STAGES[stage].get("params", []) for keys in params.values() for key in keys]
    settled = "outputs/models/${item.model}/${item.run}/engine.json" in STAGES[stage]["deps"]
    assert settled == ("engine" in declared)


@pytest.mark.parametrize("path", sorted(PIPELINE.rglob("*.py")), ids=lambda path: str(path.relative_to(PIPELINE)))
def test_packages_import_only_what_their_seam_allows(path):
    names = {name.split(".")[0] for name in imports_of(path)}
    # A subject of its own, as pipeline/suffixes, has the same parts inside.
    inside = path.relative_to(PIPELINE).parts[:-1]
    package = next((part for part in reversed(inside) if part in ("maths", "model", "stages")), "")
    assert package == "model" or not names & {"transformers", "nnsight", "tokenizers"}
    assert package != "stages" or not names & {"torch", "numpy"}, "no tensor arithmetic in a stage"
    if package == "maths":
        allowed = {"torch", "jaxtyping", "numpy", "scipy", "statsmodels", "sklearn", "concept_erasure", "pipeline"}
        standard = {"math", "dataclasses", "collections", "functools", "itertools", "typing"}
        assert names <= allowed | standard
        pure = ("pipeline.maths", "pipeline.suffixes.maths")
        assert all(name.startswith(pure) for name in imports_of(path) if name.startswith("pipeline"))


def test_stages_are_short():
    for path in (PIPELINE / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 120, path


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


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_loads_no_heavy_library_that_it_does_not_need(stage):
    assert loaded_by(f"pipeline.stages.{stage}") == NEEDED.get(stage, set())


def test_configurations_and_records_are_read_without_a_heavy_library():
    artifacts = ("answers", "card", "files", "layout", "memo", "provenance", "records", "safety_probe", "samples")
    assert (
        loaded_by(
            "pipeline.config.schema", "pipeline.stages.models", *(f"pipeline.artifacts.{name}" for name in artifacts)
        )
        == set()
    )
