"""Runs stand side by side: another profile overwrites nothing, and every committed run is checked, active or not."""

import json

import pytest

from tests.helpers.graph import Project

FOUND = ("direction.safetensors", "selection.json", "scores.csv")
PARAMS = "# mine\nmodels: [tiny]\nprofile: a\noverrides: []\n"


def write_profiles(project):
    for name, n_tokens in {"a": 6, "b": 5}.items():
        project.lean_profile(name, f"engine: {{dtype: auto}}\ngenerate: {{max_new_tokens: {n_tokens}}}\n")
    (project.folder / "params.yaml").write_text(PARAMS)


def running(result):
    lines = (result.stdout + result.stderr).splitlines()
    ran = [line.split("'")[1] for line in lines if line.startswith("Running stage")]
    return [name for name in ran if name != "code"]  # which always runs


@pytest.fixture(scope="module")
def project(made):
    return made[0]


@pytest.fixture(scope="module")
def first(made):
    return made[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    built = Project(tmp_path_factory.mktemp("runs"), one_run=False)
    write_profiles(built)
    first = {}
    for label in ("a", "b"):
        result = built.module("pipeline", "repro", "--profile", label)
        assert "compose@tiny-" + label in running(result)
        first[label] = metrics(built, label).read_bytes()
    return built, first


def metrics(project, label):
    return project.folder / f"outputs/eval/tiny/{label}/metrics.json"


def test_going_back_runs_nothing_and_leaves_everything_as_it_was(project, first):
    for command in (
        ("pipeline", "repro", "--profile", "a"),
        ("pipeline", "repro", "--profile", "b"),
        ("dvc", "repro"),
    ):
        assert running(project.module(*command)) == []
    assert (project.folder / "params.yaml").read_text() == PARAMS
    assert {label: metrics(project, label).read_bytes() for label in ("a", "b")} == first
    assert first["a"] != first["b"]
    tokens = {label: json.loads(text)["max_new_tokens"] for label, text in first.items()}
    assert tokens == {"a": 6, "b": 5}


def test_results_are_printed_also_when_nothing_ran(project):
    shown = project.module("pipeline", "repro", "--profile", "b").stdout
    assert "refusal score [substring]" in shown


def test_the_dtype_is_settled_once_and_stands_in_every_result(project):
    for label in ("a", "b"):
        folder = project.folder / f"outputs/models/tiny/{label}"
        dtype = json.loads((folder / "engine.json").read_text())
        assert dtype.keys() == {"dtype"}
        assert dtype["dtype"] in ("bfloat16", "float32")
        assert "dtype: auto" in (folder / "config.yaml").read_text(), "the configuration knows no machine"
        record = json.loads(metrics(project, label).read_text())
        assert record["provenance"]["dtype"] == dtype["dtype"]


def test_gate_and_fresh_check_the_run_that_is_not_active(project):
    for label in ("a", "b"):
        (project.folder / "params.yaml").write_text(PARAMS.replace("profile: a", f"profile: {label}"))
        project.module("pipeline", "gate", "--update")
    (project.folder / "params.yaml").write_text(PARAMS)
    for verb in ("gate", "fresh"):
        result = project.module("pipeline", verb)
        assert "tiny, a" in result.stdout
        assert "tiny, b" in result.stdout
    found = metrics(project, "b").parent / "found"
    damages = {
        "fresh": [metrics(project, "b"), *(found / name for name in FOUND)],
        "gate": [project.folder / "regression/tiny/b.json"],
    }
    for verb, paths in damages.items():
        for path in paths:
            kept = path.read_bytes()
            for damage in (lambda path=path, kept=kept: path.write_bytes(kept[:-9]), path.unlink):
                damage()
                result = project.module("pipeline", verb, check=False)
                assert result.returncode == 1, f"{verb} passes without a whole {path}"
                assert "Traceback" not in result.stderr
                path.write_bytes(kept)
        assert project.module("pipeline", verb).returncode == 0


def test_the_gate_names_another_dtype(project):
    path = project.folder / "regression/tiny/b.json"
    kept = path.read_text()
    baseline = json.loads(kept)
    other = {"bfloat16": "float32", "float32": "bfloat16"}[baseline["dtype"]]
    path.write_text(json.dumps({**baseline, "dtype": other, "verdict": "other"}))
    result = project.module("pipeline", "gate", check=False)
    assert f"the baseline in {other}" in result.stdout
    path.write_text(kept)


def test_a_stray_folder_of_results_is_named(project):
    stray = project.folder / "outputs/eval/tiny/c"
    stray.mkdir()
    result = project.module("pipeline", "fresh", check=False)
    assert (result.returncode, "outputs/eval/tiny/c is of no run" in result.stdout) == (1, True)
    stray.rmdir()


def test_overrides_without_a_name_are_refused_by_dvc_and_named_by_repro(project, first):
    (project.folder / "params.yaml").write_text(PARAMS.replace("[]", "[seed=3]"))
    result = project.module("dvc", "repro", check=False)
    assert "profile: a-NAME" in result.stderr + result.stdout
    assert metrics(project, "a").read_bytes() == first["a"]
    (project.folder / "params.yaml").write_text(PARAMS)
