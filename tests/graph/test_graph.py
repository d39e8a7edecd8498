"""The whole graph on the tiny model, through `dvc repro` itself."""

import json
import shutil
import subprocess
import sys

import pytest

from pipeline.names import MEAN_DIFFERENCE, TERMS
from tests.helpers.graph import RUN, STAGES, Project
from tests.helpers.stop import killed


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    return Project.copied(finished, tmp_path_factory.mktemp("project"))


def test_every_stage_leaves_its_artefact_and_a_second_run_runs_nothing(project):
    metrics = json.loads((project.at("eval") / "metrics.json").read_text())
    assert metrics["verdict"] == "direction_selected"
    assert metrics["export"]["exported"]
    assert metrics["export"]["greedy_different"] == 0
    assert sorted(metrics["loss"]) == ["instruction_answers", "own_completions", "plain_text"]
    for losses in metrics["loss"].values():
        effects = {"ablation", "subtraction", "addition"}
        assert {"baseline", "export", *effects, *(f"{each}.random_0" for each in effects)} <= set(losses["loss"])
        assert losses["export"]["max_difference"] < 1e-4 < losses["export"]["max_effect"]
    assert max(metrics["export"]["max_cosine_after"]) < 1e-5 < max(metrics["export"]["max_cosine_before"])
    assert {path.name for path in (project.at("figures")).iterdir()} == {
        "capability.png",
        "controls.png",
        "estimators.png",
        "further.png",
        "length.png",
        "refusal.png",
        "selection.png",
        "stability.png",
    }
    assert metrics["safety"] == {}, "no judge of safety reads what a random model writes"
    assert metrics["systems"]["not_measured"].keys() <= {"none", "safety"}
    assert (metrics["systems"]["main"], metrics["systems"]["of_template"]) == ("", True), "its template writes none"
    for name, estimator in metrics["estimators"].items():
        assert sum(win["share"] for win in estimator["wins"]) == pytest.approx(1)
        assert set(estimator["additions"]) == set(TERMS)
        for effect in (estimator["ablation"], *estimator["additions"].values()):
            assert effect["metric"]["n"] == effect["kl"]["n"] == 8, "every test prompt of a class"
            assert (effect["against_mean_difference"] is None) == (name == MEAN_DIFFERENCE)
    further = {name.partition("_")[0] for name in metrics["refusal_score"] if "-" in name or "@" in name}
    assert {"contrast-safe", "contrast-unsafe"} <= further
    assert project.repro() == []


def test_deleted_outs_come_back_byte_identical(project):
    before = project.outs()
    shutil.rmtree(project.folder / "outputs")
    shutil.rmtree(project.folder / ".dvc" / "cache")
    (project.folder / "dvc.lock").unlink()
    assert project.repro() == STAGES
    after = project.outs()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_a_judge_value_reruns_judging_and_what_follows(project):
    project.params(overrides="judge.window=5")
    assert project.repro() == ["compose", "judge", "metrics", "figures", "report", "seal"]
    project.params()
    assert "completions" not in project.repro()


def test_another_model_leaves_the_first_one_alone(project):
    (project.folder / "conf/model/tiny_two.yaml").write_text(
        (project.folder / "conf/model/tiny.yaml").read_text().replace("kind: random", "kind: random\n  seed: 0")
    )
    lock = (project.folder / "dvc.lock").read_text()
    project.params(models="tiny, tiny_two")
    out = project.module("dvc", "repro", f"direction@tiny-{RUN}", f"direction@tiny_two-{RUN}").stdout
    running = [line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")]
    # conf/ is an input of every compose; its output for the first model is the same, so nothing follows.
    wanted = ("compose", "prompts", "engine", "refusal_tokens", "activations", "scores", "direction")
    assert set(running) == {"code", f"compose@tiny-{RUN}", *(f"{stage}@tiny_two-{RUN}" for stage in wanted)}
    (project.folder / "conf/model/tiny_two.yaml").unlink()
    shutil.rmtree(project.folder / "outputs/models/tiny_two")
    (project.folder / "dvc.lock").write_text(lock)
    project.params()
    assert project.repro() == []


def test_killed_completions_resume_and_equal_an_uninterrupted_run(project):
    overrides = '"generate.max_new_tokens=24","generate.batch_size=2"'
    project.params(overrides=overrides)
    project.stage("compose")
    command = [sys.executable, "-m", "pipeline.stages", "completions", "--model", "tiny", "--run", RUN]
    folder, partial = project.at("models") / "completions", project.folder / "outputs/partial"
    shutil.rmtree(folder)
    killed(command, "*/outputs/partial/completions-*.jsonl", 40, cwd=project.folder, stderr=subprocess.DEVNULL)
    assert not folder.exists(), "nothing under the final name before all is done"
    unfinished = sorted(partial.glob("completions-*.jsonl"))
    assert len(unfinished) > 1
    torn = unfinished[0].read_bytes()
    unfinished[0].write_bytes(torn[:-7])  # as if the last write had been cut short
    project.stage("completions")
    resumed = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert not list(partial.glob("completions-*.jsonl"))
    shutil.rmtree(folder)
    project.stage("completions")
    assert resumed == {path.name: path.read_bytes() for path in folder.iterdir()}
    project.params()
    project.repro()


def test_a_killed_loss_keeps_what_it_measured_and_ends_with_the_same_bytes(project):
    path, partial = project.at("models") / "loss.json", project.folder / "outputs/partial"
    whole = path.read_bytes()
    path.unlink()
    command = [sys.executable, "-m", "pipeline.stages", "loss", "--model", "tiny", "--run", RUN]
    killed(command, "*/outputs/partial/loss-*.jsonl", 3, cwd=project.folder, stderr=subprocess.DEVNULL)
    assert not path.exists(), "nothing under the final name before all is done"
    [unfinished] = partial.glob("loss-*.jsonl")
    unfinished.write_bytes(unfinished.read_bytes() + b'{"step": "plain_te')  # as if a write had been cut short
    before = {tuple(row["step"].split()) for row in map(json.loads, unfinished.read_bytes().splitlines()[:-1])}
    shown = project.stage("loss").stderr
    assert path.read_bytes() == whole
    again = {key for key in before if f"loss: {key[0]}, {key[1]} " in shown}
    assert (len(before), again) == (3, set()), "measured once"
    assert "loss: own_completions, export " in shown
    assert not list(partial.glob("loss-*.jsonl"))


def test_killed_capability_goes_on_with_the_next_condition_and_writes_the_same_bytes(project):
    command = [sys.executable, "-m", "pipeline.stages", "capability", "--model", "tiny", "--run", RUN]
    folder, partial = project.at("models") / "capability", project.folder / "outputs/partial"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = {f"{name}.jsonl" for name in ("baseline", "ablation", "addition", "ablation.random_0", "export")}
    assert whole.keys() == names | {"summary.json"}
    equal = json.loads(whole["summary.json"])["tasks"]["toy_sequences"]["export_equals_ablation"]
    assert (equal["n"], equal["different_answers"], equal["different_values"]) == (12, 0, 0)
    assert equal["difference_max"] < 1e-4 < equal["effect_max"]
    shutil.rmtree(folder)
    killed(command, "*/outputs/partial/capability-*.jsonl", 2, cwd=project.folder, stderr=subprocess.DEVNULL)
    assert not folder.exists()
    assert list(partial.glob("capability-*.jsonl"))
    again = project.stage("capability")
    assert "toy_sequences, baseline" not in again.stderr, "the finished condition is not run again"
    assert "toy_sequences, export" in again.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert not list(partial.glob("capability-*.jsonl"))


def test_what_is_not_asked_for_is_not_measured_nor_shown(project):
    less = ["capability=none", "evaluate.n_prompts=0", "estimators.names=[]", "stability.sizes=[]"]
    less += ["invariance.n_prompts=0", "controls.layer_share=null"]
    project.params(overrides=", ".join(f'"{override}"' for override in less))
    project.repro()
    metrics = json.loads((project.at("eval") / "metrics.json").read_text())
    assert metrics["verdict"] == "direction_selected"
    assert metrics["estimators"] == metrics["capability"]["tasks"] == metrics["systems"]["not_measured"] == {}
    sources = {name.partition(".")[2] for name in metrics["refusal_score"]}
    assert sources == {"", "random_0", "random_1", "covariance_0", "shuffled_0"}
    assert {name.split("_")[0] for name in metrics["refusal_score"]} == {"harmful", "harmless"}
    figures = {path.stem for path in (project.at("figures")).iterdir()}
    assert figures == {"refusal", "controls", "selection", "length", "stability"}
    shown = project.module("pipeline", "report").stdout
    assert "refusal score [substring]" in shown
    assert not any(title in shown for title in ("estimators:", "capability, lm-eval", "greedy answers of"))
    project.params()
    project.repro()


def test_a_model_that_does_not_refuse_ends_green_with_a_verdict(project):
    project.params(overrides='"select.max_refusal_rate=0.99"')
    project.repro()
    metrics = json.loads((project.at("eval") / "metrics.json").read_text())
    assert metrics["verdict"] == "no_refusal_behaviour"
    assert {"harmful_baseline", "harmless_baseline", "contrast-safe_baseline"} < metrics["refusal_score"].keys()
    assert all(name.endswith("_baseline") for name in metrics["refusal_score"])
    assert not metrics["export"]["exported"]
    for losses in metrics["loss"].values():
        assert list(losses["loss"]) == ["baseline"]
        assert losses["export"] == {"reason": metrics["reason"]}
    capability = json.loads((project.at("models") / "capability/summary.json").read_text())
    assert capability["export_missing"]
    assert list(capability["tasks"]["toy_sequences"]["score"]) == ["baseline"]
    assert [path.name for path in (project.at("models") / "export").iterdir()] == ["equivalence.json"]
    assert not (project.at("models") / "direction/direction.safetensors").exists()
    assert "no_refusal_behaviour" in project.module("pipeline", "report").stdout
    project.params()
    project.repro()


def test_gate_and_fresh(project):
    (project.folder / "regression").mkdir(exist_ok=True)
    project.module("pipeline", "gate", "--update")
    assert project.module("pipeline", "gate").returncode == 0
    assert project.module("pipeline", "fresh").returncode == 0
    path = project.at("eval") / "metrics.json"
    metrics = json.loads(path.read_text())
    cases = {
        "moved": lambda m: m["outcomes"].update(
            harmful_baseline=dict.fromkeys(m["outcomes"]["harmful_baseline"], True)
        ),
        "other prompts": lambda m: m["prompts"]["hashes"].update(harmful_test="0"),
        "verdict is": lambda m: m.update(verdict="no_direction_selected"),
        "not a finite number": lambda m: m["loss"]["plain_text"].update(n_tokens=float("nan")),
        "was not measured": lambda m: m["outcomes"].pop("harmful_ablation"),
    }
    other = project.folder / "other.json"
    for message, change in cases.items():
        changed = json.loads(json.dumps(metrics))
        change(changed)
        other.write_text(json.dumps(changed))
        result = project.module("pipeline", "gate", "--metrics", str(other), check=False)
        assert result.returncode == 1
        assert message in result.stdout
    path.unlink()
    result = project.module("pipeline", "gate", check=False)
    assert (result.returncode, "is missing" in result.stdout) == (1, True)
    path.write_text(json.dumps(metrics))
    project.params(overrides="generate.max_new_tokens=7")
    result = project.module("pipeline", "fresh", check=False)
    assert (result.returncode, f"compose@tiny-{RUN} is out of date" in result.stdout) == (1, True)
    project.params()
    project.repro()


def test_sweep_runs_isolated_jobs_and_computes_nothing_twice(tmp_path, project):
    sweeping = Project(tmp_path / "project", git=True)
    for name in (".dvc/cache", "outputs"):
        shutil.copytree(project.folder / name, sweeping.folder / name, dirs_exist_ok=True)
    shutil.copy(project.folder / "dvc.lock", sweeping.folder / "dvc.lock")
    before = sweeping.outs()
    command = ("pipeline", "sweep", "-m", "model=tiny", "profile=smoke", "judge.window=7,9")
    first = sweeping.module(*command)
    assert first.stdout.count("direction_selected") == 4, "in the report of each job, and in the table"
    for stage, count in {"compose": 2, "judge": 2, "metrics": 2, "completions": 0, "scores": 0}.items():
        assert first.stdout.count(f"Running stage '{stage}@tiny-smoke'") == count, "what the project computed is shared"
    second = sweeping.module(*command)
    assert second.stdout.count("Running stage") == second.stdout.count("Running stage 'code'") == 2, "which always runs"
    assert second.stdout.count("direction_selected") == 2
    assert sweeping.outs() == before


def test_fresh_needs_no_data(project):
    models = project.at("models")
    for path in models.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    (models / "loss.json").unlink()
    shutil.rmtree(project.folder / ".dvc" / "cache")
    result = project.module("pipeline", "fresh", check=False)
    assert result.returncode == 0, result.stdout + result.stderr
