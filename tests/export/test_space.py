"""What runs leave on the disk: the proof of an export in place of its weights, and its bytes again from the recipe."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.compose import compose
from pipeline.config.params import read_params
from pipeline.config.schema import Config
from pipeline.disk.files import SUMS
from pipeline.disk.headers import SINGLE
from pipeline.entry.export import again
from pipeline.entry.model import model_folder
from pipeline.stages.export import export
from pipeline.sweep.jobs import prepare, with_proof_alone
from tests.helpers.cases import refused
from tests.helpers.graph import RUN, Project
from tests.helpers.stop import killed
from tests.helpers.tiny import store, tensors

PROOF = {"README.md", "SHA256SUMS", "coverage.json", "equivalence.json", "recipe.json"}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    return Project.copied(finished, tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def whole(project):
    """Every file of the export with weights, which is put aside."""
    folder = project.at("models") / "export"
    kept = contents(folder)
    shutil.rmtree(folder)
    project.params(overrides="export.keep=proof")
    project.stage("compose")
    return kept


@pytest.fixture(scope="module")
def proof(project, whole):
    project.stage("export")
    return project.at("models") / "export"


def tiny_config(*overrides) -> Config:
    config = OmegaConf.to_object(compose("tiny", "smoke", overrides))
    assert isinstance(config, Config)
    return config


def test_a_proof_has_no_weights_the_same_numbers_and_leaves_nothing_behind(project, whole, proof):
    kept = contents(proof)
    assert kept.keys() == PROOF
    assert whole.keys() > {SINGLE, "config.json", "tokenizer.json"}
    assert "recipe.json" not in whole
    same = PROOF - {"recipe.json"}
    assert {name: kept[name] for name in same} == {name: whole[name] for name in same}
    assert json.loads(kept["equivalence.json"])["exported"]
    assert not list((project.folder / "outputs/partial").iterdir())


def test_no_result_depends_on_what_is_kept(project, proof, tmp_path):
    found, layout = set(), Layout("tiny", RUN, project.folder)
    text = layout.config.read_text()
    for kept in ("  keep: proof\n", "  keep: model\n", ""):  # configurations of before have no such value
        copy = Layout("tiny", RUN, tmp_path)
        shutil.copytree(layout.folder, copy.folder, dirs_exist_ok=True)
        copy.config.write_text(text.replace("  keep: proof\n", kept))
        found.add(provenance(tiny_config(), copy, "m", ("export", "model"))["config"])
    assert len(found) == 1
    copy.config.write_text(text.replace("n_tokens: 8", "n_tokens: 9"))
    assert provenance(tiny_config(), copy, "m", ("export", "model"))["config"] not in found


def test_the_recipe_makes_every_byte_again(project, whole, proof, tmp_path):
    arguments = ("tiny", "--recipe", str(proof), "--out", str(tmp_path / "out"))
    said = project.module("pipeline", "orthogonalize", *arguments).stdout
    assert f"{len(whole) - 4} files, byte for byte" in said
    assert contents(tmp_path / "out") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def copied(proof, folder, name, change):
    shutil.copytree(proof, folder)
    path = folder / name
    path.write_text(change(path.read_text()))
    return folder


def row(change):
    def changed(text):
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    return changed


CHANGED = {
    "direction": (
        "recipe.json",
        row(lambda r: r["direction"].__setitem__(0, r["direction"][0] + 1e-3)),
        "is not the file",
    ),
    "hash": (SUMS, lambda text: text.replace(text[:8], "0" * 8, 1), "the recipe, the hashes or the source was changed"),
    "version": (
        "recipe.json",
        row(lambda r: (r["direction"].reverse(), r["versions"].update(transformers="4.0"))),
        r"it was made with transformers 4\.0, here ",
    ),
    "family": ("recipe.json", row(lambda r: r["family"].update(exact=False)), "another family file"),
    "source": ("recipe.json", row(lambda r: r.update(source="random:0")), "belongs to model 'random:0', not 'random:"),
    "no direction": ("recipe.json", row(lambda r: r.pop("direction")), "it has no 'direction'"),
    "NaN": ("recipe.json", row(lambda r: r["direction"].__setitem__(0, float("nan"))), "no list of numbers"),
    "text": ("recipe.json", row(lambda r: r.update(direction="x")), "is no recipe of an export"),
    "layer": ("recipe.json", row(lambda r: r.update(layer="2")), "of no layer and position"),
    "overflow": ("recipe.json", row(lambda r: r["direction"].__setitem__(0, 10**400)), "is no recipe of an export"),
    "no object": ("recipe.json", lambda text: "[]", "holds no JSON object"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_recipe_is_refused_and_nothing_is_kept(proof, tmp_path, name):
    file, change, said = CHANGED[name]
    folder = copied(proof, tmp_path / "proof", file, change)
    with refused(said):
        again(tiny_config(), folder, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"proof"}


def test_a_recipe_of_another_source_or_without_its_hashes_is_refused(proof, tmp_path):
    with refused("belongs to model 'random:"):
        again(tiny_config("+model.source.seed=5"), proof, tmp_path / "out")
    (copied(proof, tmp_path / "proof", SUMS, str) / SUMS).unlink()
    with refused("SHA256SUMS is missing"):
        again(tiny_config(), tmp_path / "proof", tmp_path / "out")
    with refused("is there already"):
        again(tiny_config(), proof, tmp_path / "proof")


def test_a_proof_is_no_model(proof):
    with refused("holds the proof of an export and no weights: make them with .*python -m pipeline orthogonalize"):
        model_folder(tiny_config("model.source.kind=folder", f"+model.source.path={proof}"))


@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_export_ends_with_the_same_proof(project, whole, proof, after):
    kept, partial = contents(proof), project.folder / "outputs/partial"
    shutil.rmtree(proof)
    command = [sys.executable, "-m", "pipeline.stages", "export", "--model", "tiny", "--run", RUN]
    killed(command, "*/outputs/partial/export-*/*", after, cwd=project.folder, stderr=subprocess.DEVNULL)
    assert not proof.exists()
    for folder in partial.glob("export-*"):
        (folder / ".model.safetensors.torn").write_bytes(b"torn")
    project.stage("export")
    assert contents(proof) == kept
    assert not list(partial.iterdir())


def test_an_export_killed_while_it_drops_the_weights_ends_with_the_same_proof(project, whole, proof):
    kept = contents(proof)
    code = project.folder / "pipeline/export/recipe.py"
    right = code.read_text()
    shutil.rmtree(proof)
    code.write_text(
        right.replace("            path.unlink()", "            path.unlink()\n            raise SystemExit(9)")
    )
    try:
        assert project.stage("export", check=False).returncode == 9
    finally:
        code.write_text(right)
    assert not proof.exists()
    [left] = (project.folder / "outputs/partial").iterdir()
    assert not whole.keys() <= set(contents(left))
    project.stage("export")
    assert contents(proof) == kept
    assert not list((project.folder / "outputs/partial").iterdir())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_export_and_its_recipe_keep_the_dtype_of_the_source(project, proof, tmp_path, dtype):
    again(tiny_config(), proof, tmp_path / "source")
    wanted = getattr(torch, dtype)
    store(tmp_path / "source", {name: tensor.to(wanted) for name, tensor in tensors(tmp_path / "source").items()})
    source = ("model.source.kind=folder", f"+model.source.path={tmp_path / 'source'}")
    config = tiny_config(*source, "export.keep=proof", f"export.dtype={dtype}")
    layout = Layout("tiny", RUN, tmp_path)
    shutil.copytree(project.at("models"), layout.folder, ignore=shutil.ignore_patterns("export"))
    direction = records.read_saved_direction(layout.direction, identity(tiny_config().model.source))
    # The source has nothing along its own direction any more: another one.
    records.write_direction(
        layout.direction, dataclasses.replace(direction, vector=direction.vector.flip(0)), identity(config.model.source)
    )
    export(config, layout)
    assert set(contents(layout.export)) == PROOF
    again(config, layout.export, tmp_path / "again")
    assert {tensor.dtype for tensor in tensors(tmp_path / "again").values()} == {wanted}


def test_a_job_of_a_sweep_keeps_the_proof_unless_told_otherwise(tmp_path):
    params = {"models": ["tiny"], "profile": "smoke", "overrides": ["judge.window=7"]}
    assert with_proof_alone(params)["overrides"] == ["judge.window=7", "export.keep=proof"]
    for own in ("export.keep=model", "+export.keep=model"):
        assert with_proof_alone({**params, "overrides": [own]})["overrides"] == [own]
    source = Project(tmp_path / "project", git=True).folder
    prepare(tmp_path / "job", params, source)
    assert read_params(tmp_path / "job" / "params.yaml").overrides == ["judge.window=7", "export.keep=proof"]
