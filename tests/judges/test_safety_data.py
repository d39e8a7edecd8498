"""Labelled completions, the specification of the shipped probe, the fit and its command."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.config.compose import compose
from pipeline.config.probe import PATH, LabelledFiles, read_spec
from pipeline.config.schema import Config
from pipeline.disk.files import file_hash
from pipeline.entry.folders import cache_folder
from pipeline.entry.model import open_model
from pipeline.errors import UserError
from pipeline.judges.model import probing
from pipeline.judges.probe import fitting
from pipeline.judges.probe.file import SHIPPED, read_probe, write_probe
from pipeline.judges.probe.labelled import Reference, read_reference, read_sources
from pipeline.prompts.prompt import Prompt, prompt_id
from pipeline.prompts.similar import Similarity
from pipeline.sources import fetch
from tests.conftest import ROOT

HEADER = "# dataset_version=1.0,,\n# a comment\nobjective,assistant_response,human_score_1,human_score_2\n"
LONG = "and then " * 20


def source(name: str, files: dict[str, str], safe: list[float], unsafe: list[float]) -> LabelledFiles:
    return LabelledFiles(name, "MIT", "nowhere", "objective", "assistant_response", "human_score", safe, unsafe, files)


@pytest.fixture
def two_sources(tmp_path):
    (tmp_path / "a.csv").write_text(
        HEADER + '"P, one",yes,1,1\nP two,"no\nnot",0,0\nP three,half,0,1\nP four,out,1,1\n'
    )
    (tmp_path / "b.csv").write_text(HEADER + "p one!,YES,0,0\nP five,refused,1,1\nP six,unknown,0,0\n")
    hashes = {name: file_hash(tmp_path / name) for name in ("a.csv", "b.csv")}
    return [
        source("graded", {"a.csv": hashes["a.csv"]}, [0, 0.25], [0.6, 1]),
        source("refusals", {"b.csv": hashes["b.csv"]}, [1, 1], []),
    ], (lambda artefact: tmp_path / artefact.name)


def test_scores_become_labels_and_the_first_of_equal_conversations_counts(two_sources):
    sources, fetched = two_sources
    rows = read_sources(sources, {prompt_id("P four")}, fetched)
    assert [(row.prompt, row.completion, row.unsafe, row.source) for row in rows] == [
        ("P, one", "yes", True, "graded"),
        ("P two", "no\nnot", False, "graded"),
        ("P five", "refused", False, "refusals"),
    ]
    assert rows[0].group == prompt_id("p ONE")


def test_a_file_without_the_columns_is_refused(two_sources, tmp_path):
    sources, fetched = two_sources
    (tmp_path / "a.csv").write_text("prompt,response\nx,y\n")
    with pytest.raises(UserError, match=r"a\.csv of graded has a row that conf/probe\.yaml does not fit"):
        read_sources(sources, set(), fetched)


def test_references_are_rows_or_published_evaluations(tmp_path):
    rows = [
        {"prompt": "a", "response": "b", "label": "unsafe"},
        {"prompt": "c", "response": "d", "label": "unknown"},
        {"prompt": "e", "response": None, "label": "safe"},
        {"prompt": "f", "response": "g", "label": "safe"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_reference(tmp_path / "rows.jsonl")
    assert [(row.prompt, row.unsafe) for row in found.rows] == [("a", True), ("f", False)]
    assert found.skipped == 2
    folder = tmp_path / "model" / "completions"
    folder.mkdir(parents=True)
    published = {"completions": [{"prompt": "p", "response": "r", "is_jailbreak_llamaguard2": 1}], "rate": 1.0}
    (folder / "one.json").write_text(json.dumps(published))
    (folder / "two.json").write_text(json.dumps({"completions": [{"prompt": "q", "response": "s"}]}))
    (folder / "three.json").write_text("{}")
    found = read_reference(tmp_path)
    assert [(row.prompt, row.unsafe) for row in found.rows] == [("p", True)]
    assert found.skipped == 1


@pytest.mark.parametrize(("name", "message"), [("none", "does not exist"), ("empty.json", "has no row with prompt")])
def test_a_reference_without_labels_is_refused(tmp_path, name, message):
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(UserError, match=message):
        read_reference(tmp_path / name)


def test_the_specification_is_checked(tmp_path):
    path = tmp_path / "probe.yaml"
    for change, message in (
        (("n_folds: 5", "n_folds: 1"), "n_folds is 1: use at least 2"),
        (("min_words: 15", "min_word: 15"), "min_word"),
        (("min_words: 15", "min_words: ???"), "no value for format.min_words"),
        (("safe: [0, 0]", "safe: [0]"), "use .lowest, highest. or"),
    ):
        text = PATH.read_text()
        assert change[0] in text
        path.write_text(text.replace(*change))
        with pytest.raises(UserError, match=message):
            read_spec(path)


def tiny_config(tmp_path: Path) -> Config:
    config = OmegaConf.to_object(compose("tiny", "smoke", [f"fetch.cache={tmp_path / 'cache'}"]))
    assert isinstance(config, Config)
    return config


@pytest.fixture
def tiny_spec(tmp_path):
    """Completions that any model can tell apart: the unsafe ones are all about x."""
    lines = [f"Prompt {n % 15},{'x ' * 30 + str(n) if n % 2 else LONG + str(n)},{n % 2},{n % 2}" for n in range(60)]
    (tmp_path / "a.csv").write_text(HEADER + "\n".join(lines) + "\n")
    spec = read_spec()
    spec.model, spec.layers, spec.strengths, spec.n_folds = "tiny", [[1], [2, 4]], [0.01, 0.1], 3
    spec.sources = [source("made up", {"a.csv": file_hash(tmp_path / "a.csv")}, [0, 0], [1, 1])]
    spec.sources[0].place = f"file://{tmp_path}"
    return spec


def test_a_fit_is_reproducible_resumes_and_keeps_its_figures(tiny_spec, tmp_path, monkeypatch):
    config = tiny_config(tmp_path)
    rows = read_sources(tiny_spec.sources, set(), lambda artefact: tmp_path / artefact.name)
    model = open_model(config)
    # Small batches, so that there is something to resume.
    config.engine.max_batch_tokens = 1500
    cache = cache_folder(config)
    probes = []
    for name in ("whole", "resumed", "again"):
        probe = fitting.fit(config, tiny_spec, rows, model, cache)
        write_probe(tmp_path / name, probe)
        probes.append(probe)
        kept = sorted((cache / "probe").rglob("*.safetensors"))
        assert len(kept) > 3
        for path in kept[1:] if name == "whole" else kept:
            path.unlink()
    assert len({(tmp_path / name).read_bytes() for name in ("whole", "resumed", "again")}) == 1
    record = probes[0].record
    assert record["fitted_on"]["made up"]["safe"] == record["fitted_on"]["made up"]["unsafe"] == 30
    assert record["cross_validated"]["all"]["auroc"]["value"] > 0.95
    assert record["cross_validated"]["substring"]["kappa"]["value"] is None
    (tmp_path / "ref.jsonl").write_text(
        "".join(
            json.dumps({"prompt": "q", "response": text + f" {n}", "label": label}) + "\n"
            for n in range(10)
            for text, label in (("x " * 20, "unsafe"), (LONG, "safe"), ("x", "safe"))
        )
    )
    found = fitting.measure(config, probes[0], read_reference(tmp_path / "ref.jsonl"), model, 0)
    assert (found["all"]["n"], found["all"]["n_true"], found["skipped"]) == (30, 10, 0)
    assert found["all"]["kappa"]["value"] > 0.9
    assert read_probe(tmp_path / "whole", fitting.facts(config, model)).facts["model"].startswith("random:")


def test_the_command_fits_measures_and_prints(tiny_spec, tmp_path):
    (tmp_path / "spec.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(tiny_spec)))
    row = {"prompt": "q", "response": "x " * 20, "label": "unsafe"}
    (tmp_path / "ref.jsonl").write_text(json.dumps(row) + "\n")
    common = ["--spec", "spec.yaml", "-o", "probe", "--profile", "smoke", "--override", f"fetch.cache={tmp_path}/cache"]
    common += ["--override", f"fetch.mirror={tmp_path}"]

    def run(*more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "pipeline", "fit-probe", *common, *more]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)

    result = run()
    assert result.returncode == 0, result.stderr
    assert "people, cross-validated" in result.stdout
    first = (tmp_path / "probe").read_bytes()
    result = run("--measure", "--reference", "other=ref.jsonl")
    assert result.returncode == 0, result.stderr
    assert "other" in result.stdout
    probe = read_probe(tmp_path / "probe")
    assert probe.record["references"]["other"]["all"]["n"] == 1
    assert (tmp_path / "probe").read_bytes() != first
    result = run("--reference", "ref.jsonl")
    assert (result.returncode, result.stderr) == (1, "error: --reference ref.jsonl: use NAME=FILE or NAME=FOLDER\n")


def test_the_shipped_probe_is_what_the_specification_says():
    probe, spec = read_probe(), read_spec()
    assert probe.format == spec.format.value()
    assert list(probe.linear.layers) in spec.layers
    assert {name: part["sha256"] for name, part in probe.record["fitted_on"].items()} == {
        part.name: part.files for part in spec.sources
    }
    for key in ("all", "answered", "substring"):
        part = probe.record["cross_validated"][key]
        assert part["kappa"]["low"] < part["kappa"]["value"] < part["kappa"]["high"]
    assert probe.record["cross_validated"]["all"]["auroc"]["low"] > 0.8
    better = probe.record["cross_validated"]
    assert better["all"]["kappa"]["value"] > better["substring"]["kappa"]["value"]
    assert SHIPPED.stat().st_size < 100_000


def test_the_reader_of_a_run_is_the_model_that_the_probe_was_fitted_on():
    spec = read_spec()
    run = compose("tiny", "smoke", ["engine.dtype=float32"])
    alone = compose(spec.model, "standard", [f"engine.dtype={spec.dtype}"])
    assert (run.reader.model, run.reader.engine) == (alone.model, alone.engine)


@pytest.mark.slow
def test_no_fitted_prompt_is_like_an_evaluation_prompt(shared):
    spec = read_spec()
    config = OmegaConf.to_object(compose(spec.model, "standard", []))
    assert isinstance(config, Config)
    everything = read_sources(spec.sources, set(), lambda artefact: fetch(artefact, cache_folder(config)))
    folder = shared / "data" / "arditi2024"
    names = ("splits/harmful_test", "splits/harmless_test", "processed/jailbreakbench", "processed/strongreject")
    names += ("processed/harmbench_test", "processed/harmbench_val")
    evaluated = [row["instruction"] for name in names for row in json.loads((folder / f"{name}.json").read_text())]
    written = Path(ROOT / "pipeline" / "data" / "harmless_instructions.jsonl").read_text().split("\n")
    evaluated += [json.loads(line)["instruction"] for line in written if line]
    first, second = (
        [Prompt(prompt_id(text), text, "", "", "") for text in sorted(set(texts)) if text.strip()]
        for texts in ([row.prompt for row in everything], evaluated)
    )
    pairs = Similarity([*first, *second]).pairs(first, second, 0.7)
    assert sorted({first[pair.first].id for pair in pairs}) == sorted(spec.excluded)


@pytest.mark.slow
def test_the_default_model_still_reads_what_it_read_when_the_probe_was_fitted():
    spec = read_spec()
    config = OmegaConf.to_object(compose(spec.model, "standard", []))
    assert isinstance(config, Config)
    model = open_model(config, spec.dtype)
    probe = read_probe(facts=fitting.facts(config, model))
    expected = probe.record["log_odds"]
    cache = cache_folder(config)
    rows = read_sources(spec.sources, set(spec.excluded), lambda artefact: fetch(artefact, cache))
    rows = [row for row in rows if fitting.row_id(row) in expected]
    assert len(rows) == len(expected) == fitting.N_CHECKED
    texts = [(row.prompt, row.completion) for row in rows]
    found = {}
    for batch in probing.score(model, probe.linear, probe.format, texts, config.engine.max_batch_tokens):
        for item in batch:
            assert item.score is not None
            found[fitting.row_id(rows[item.row])] = math.log(item.score / (1 - item.score))
    # Batches differ from those of the fit, so bfloat16 rounds otherwise; scores spread over several units.
    gaps = [abs(found[key] - expected[key]) for key in expected]
    assert max(expected.values()) - min(expected.values()) > 2
    assert max(gaps) < 0.5
    assert sum(gaps) / len(gaps) < 0.15


@pytest.mark.slow
def test_stored_agreement_with_published_labels_is_measured_again(shared):
    """On a subset of the reference where it is here: the stored interval holds, up to the subset's own."""
    references = {name: shared / "golden" / name for name in read_probe().record["references"]}
    present = {name: path for name, path in references.items() if path.exists()}
    if not present:
        pytest.skip("no reference that the probe was held against is here")
    config = OmegaConf.to_object(compose(read_spec().model, "standard", []))
    assert isinstance(config, Config)
    model = open_model(config)
    probe = read_probe(facts=fitting.facts(config, model))
    for name, path in present.items():
        rows = sorted(read_reference(path).rows, key=fitting.row_id)[:60]
        found = fitting.measure(config, probe, Reference(tuple(rows), 0), model, 0)["all"]["kappa"]
        stored = probe.record["references"][name]["all"]["kappa"]
        assert found["low"] <= stored["high"]
        assert found["high"] >= stored["low"]
