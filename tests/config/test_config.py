"""Configuration: every model and preset composes, and each mistake is one clear line."""

import functools
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from pipeline.config.compose import compose
from pipeline.config.params import Run, read_params
from pipeline.config.place import CONF
from pipeline.config.resolved import load
from pipeline.errors import UserError
from pipeline.graph.runs import overrides_for, recorded_runs
from tests.conftest import ROOT

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
PROFILES = sorted(path.stem for path in (CONF / "profile").glob("*.yaml"))


@functools.cache
def composed(model: str, profile: str) -> Any:
    """A model's configuration, made once: no test changes it."""
    return compose(model, profile, [])


@pytest.mark.parametrize(
    ("model", "profile"), [*((model, "standard") for model in MODELS), *(("tiny", profile) for profile in PROFILES)]
)
def test_every_model_and_every_profile_composes(model, profile):
    assert composed(model, profile).model.name == model


@pytest.mark.parametrize(
    ("experiment", "source", "others"),
    [("suffixes", "found", ["suffix.sha256=" + "0" * 64]), ("published_suffixes", "given", [])],
)
def test_suffixes_have_an_experiment_each_that_changes_only_how_many_prompts_are_evaluated(experiment, source, others):
    plain, config = composed("tiny", "quick"), compose("tiny", "quick", [f"experiment={experiment}", *others])
    assert (plain.suffix.source, config.suffix.source) == ("none", source)
    tests = {"sizes.harmful.test=100", "sizes.harmless.test=100"}
    assert {**config, "suffix": None} == {**compose("tiny", "quick", sorted(tests)), "suffix": None}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_says_nothing_of_the_model(profile):
    """So that each file composes once, and not every pair."""
    values = yaml.safe_load((CONF / "profile" / f"{profile}.yaml").read_text())
    groups = [group for entry in values.pop("defaults", []) for group in entry]
    assert not [key for key in (*values, *groups) if re.search(r"\b(model|family|reader)\b", key)]


def test_model_files_are_at_most_ten_lines_and_name_pinned_bytes():
    for model in MODELS:
        text = (CONF / "model" / f"{model}.yaml").read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert len(lines) <= 10, model


def test_profile_paper_has_the_papers_sizes():
    config = compose("qwen2_5_coder_0_5b", "paper", [])
    assert (config.sizes.harmful.train, config.sizes.harmful.val, config.sizes.harmful.test) == (128, 32, 100)
    assert (config.generate.max_new_tokens, config.select.rule, config.data.name) == (512, "paper", "paper")


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        ("no_such_model", [], "unknown model 'no_such_model': conf/model/ has"),
        ("tiny", ["select.rul=paper"], "select.rul"),
        ("tiny", ["+new.key=1"], "new"),
        ("tiny", ["+select.new=1"], "select.new"),
        ("tiny", ["select.kl_threshold=-1"], "select.kl_threshold is -1.0: use a number above 0"),
        ("tiny", ["select.kl_threshold=low"], "select.kl_threshold"),
        ("tiny", ["generate.max_new_tokens=0"], "generate.max_new_tokens is 0: use at least 1"),
        ("tiny", ["engine.dtype=int4"], "engine.dtype is 'int4': use auto or one of"),
        ("tiny", ["engine.quantize=2bit"], "engine.quantize is '2bit': use"),
        ("tiny", ["+memory.limits.tpu=3"], "memory.limits.tpu is 3.0: name gpu0"),
        ("tiny", ["+model.chat.date=today"], "model.chat.date is 'today': write it as 2024-07-26"),
        ("tiny", ["judge.refusal=oracle"], "judge.refusal is 'oracle': use one of"),
        ("tiny", ["judge.others=[oracle]"], "judge.others is ['oracle']: use"),
        ("tiny", ["controls.random=0"], "controls.random is 0: every effect needs a control"),
        ("tiny", ["controls.shuffled=-1"], "controls.shuffled is -1: every effect needs a control"),
        ("tiny", ["controls.covariance=0"], "controls.covariance is 0: every effect needs a control"),
        ("tiny", ["controls.answered.random=4"], "controls.answered.random is 4: use 1 to controls.random"),
        ("tiny", ["controls.answered.shuffled=0"], "controls.answered.shuffled is 0: use 1 to controls.shuffled"),
        ("tiny", ["+controls.answered.layer=1"], "'layer': 1}: give a number for each of random, covariance, shuffled"),
        ("tiny", ["controls.layer_share=1"], "controls.layer_share is 1.0: use null or a share between"),
        ("tiny", ["estimators.names=[leace]"], "keep mean_difference"),
        ("tiny", ["estimators.names=[mean_difference,ica]"], "estimators.names is ['ica']: use"),
        ("tiny", ["estimators.positions=[0]"], "estimators.positions is [0]: count from the end"),
        ("tiny", ["stability.n_resamples=10"], "stability.n_resamples is 10: use at least 100"),
        ("tiny", ["stability.sizes=[0]"], "stability.sizes is [0]"),
        ("tiny", ["evaluate.effects=[ablation]"], "evaluate.effects is ['ablation']: keep ablation and addition"),
        (
            "tiny",
            ["refusal_tokens.source=auto", "refusal_tokens.n_harmful=0", "refusal_tokens.n_harmless=0"],
            "auto is found",
        ),
        ("tiny", ["generate.lengths=[0]"], "generate.lengths is [0]: use at least 1"),
        ("tiny", ["refusal_tokens.source=guess"], "refusal_tokens.source is 'guess': use one of"),
        ("tiny", ["capability.limit=0"], "capability.limit is 0: use null or at least 1"),
        ("tiny", ["capability.batch_size=0"], "capability.batch_size is 0: use at least 1"),
        ("tiny", ["capability.dtype=int4"], "capability.dtype is 'int4': use one of"),
        ("tiny", ["+capability.tasks.toy_sequences.sha256=00"], "give both sha256 and places"),
        ("tiny", ["capability.tasks.toy_sequences.metric=''"], "name one, such as acc"),
        ("tiny", ["capability=mirror"], "no value for capability.folder"),
        ("tiny", ["suffix=nowhere"], "suffix/nowhere"),
        ("tiny", ["suffix=given"], "suffix.texts is []: source given needs"),
        ("tiny", ["suffix=given", "suffix.texts=['']"], "an empty suffix is none"),
        ("tiny", ["suffix=given", "suffix.file=list.txt"], "suffix.sha256 is '': give the file's sha256"),
        ("tiny", ["suffix=found"], "suffix.sha256 is '': give the file's sha256"),
        ("tiny", ["suffix.n_prompts=4"], "suffix.n_prompts is 4: fewer than 8"),
        ("tiny", ["suffix.n_random=0"], "suffix.n_random is 0: use at least 1"),
        ("tiny", ["suffix.judge=wildguard_refusal"], "suffix.judge is 'wildguard_refusal': use one of"),
        ("tiny", ["suffix.dtype=int8"], "suffix.dtype is 'int8': use one of"),
        ("tiny", ["data=nowhere"], "data/nowhere"),
        ("tiny", ["text=nowhere"], "text/nowhere"),
        ("tiny", ["text.n_documents=-1"], "text.n_documents is -1: use 0 (none) or more"),
        ("tiny", ["text.n_answers=-1"], "text.n_answers is -1: use 0 (none) or more"),
        ("tiny", ["text.plain_text=[]"], "text.plain_text: empty"),
        ("tiny", ["text=paper", "text.plain_text.0.revision=main"], "use a commit of 40 hex digits"),
        ("tiny", ["loss.max_answer_tokens=0"], "loss.max_answer_tokens is 0: use at least 1"),
        ("tiny", ["loss.max_tokens=1"], "loss.max_tokens is 1: use at least 2"),
        ("tiny", ["data=custom"], "no value for data.harmful.train[0].file, data.harmless.train[0].file"),
        ("tiny", ["sizes.harmful.train=0"], "train is 0: use at least 1"),
        ("tiny", ["model.source.kind=hub"], "model.source.repo"),
    ],
)
def test_a_mistake_is_one_line_naming_the_key(model, overrides, message):
    with pytest.raises(UserError) as caught:
        compose(model, "smoke", overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_typo_in_conf_fails_in_compose(tmp_path):
    import shutil

    shutil.copytree(CONF, tmp_path / "conf")
    path = tmp_path / "conf" / "engine" / "default.yaml"
    path.write_text(path.read_text().replace("dtype:", "dtyp:"))
    with pytest.raises(UserError, match=r"engine\.dtyp"):
        compose("tiny", "smoke", [], tmp_path / "conf")


def test_compose_writes_nothing_when_it_fails(tmp_path):
    (tmp_path / "params.yaml").write_text("models: [tiny]\nprofile: smoke-x\noverrides: ['select.rule=best']\n")
    command = [sys.executable, "-m", "pipeline.stages", "compose", "--model", "tiny", "--run", "smoke-x"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 1
    *_loading, error = result.stderr.strip().splitlines()
    assert error.startswith("error: ")
    assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: []\n", "names no model"),
        ("models: [tiny]\nprofil: smoke\n", "profil"),
        ("models: 3\n", "params.yaml"),
        ("models: [\n", "params.yaml"),
        ("models: [tiny]\nprofile: a b\n", "is no name"),
    ],
)
def test_bad_params_are_one_line(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_params(path)


def test_a_missing_configuration_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match="dvc repro"):
        load(tmp_path / "config.yaml")


def without_block_texts(lines):
    """The lines that are not inside a `|` block, which holds text and so no comments."""
    block = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if block is not None and (not line.strip() or indent > block):
            continue
        block = indent if re.search(r": [|]-?( #|$)", line) else None
        yield line


def test_every_value_in_conf_has_a_line_of_meaning():
    for path in CONF.rglob("*.yaml"):
        if path.parent.name in ("select", "engine", "profile"):
            for line in without_block_texts(path.read_text().splitlines()):
                name = line.split(":")[0].strip()
                explained = "#" in line or line.endswith(":") or name in ("rule", "defaults")
                nested = name in ("harmful", "harmless", "min_train", "min_val") or name.startswith("- override /")
                assert explained or nested or not line.strip(), f"{path.name}: {line}"


def test_limits_and_references_reach_the_configuration():
    limits = compose("tiny", "smoke", ["+memory.limits.gpu0=20", "+memory.limits.cpu=64"]).memory.limits
    assert dict(limits) == {"gpu0": 20.0, "cpu": 64.0}
    reference = composed("llama_3_8b", "standard").model.reference
    assert (reference.position, reference.layer) == (-5, 12)


def test_the_papers_thirteen_models_are_there_with_its_choices():
    referenced = [name for name in MODELS if composed(name, "standard").model.reference]
    assert len(referenced) == 13


def test_hub_models_are_pinned_to_a_commit():
    for name in MODELS:
        source = composed(name, "standard").model.source
        if source.kind == "hub":
            assert len(source.revision) == 40, name
            assert set(source.revision) <= set("0123456789abcdef"), name


LOCK = """stages:
  compose@tiny-smoke-mine:
    params: {params.yaml: {overrides: [seed=2]}}
    outs: [{path: outputs/models/tiny/smoke-mine/config.yaml}]
  compose@tiny-smoke:
    params: {params.yaml: {overrides: []}}
    outs: [{path: outputs/models/tiny/smoke/config.yaml}]
  golden: {outs: [{path: outputs/golden/golden.json}]}
"""


def test_a_run_keeps_the_overrides_that_it_was_made_with(tmp_path):
    (tmp_path / "dvc.lock").write_text(LOCK)
    params = tmp_path / "params.yaml"
    params.write_text("models: [tiny]\nprofile: smoke\n")
    assert recorded_runs(tmp_path / "dvc.lock") == [Run("tiny", "smoke"), Run("tiny", "smoke-mine", ("seed=2",))]
    assert overrides_for("tiny", "smoke", tmp_path) == []
    assert overrides_for("tiny", "smoke-mine", tmp_path) == ["seed=2"]
    params.write_text("models: [tiny]\nprofile: smoke-mine\noverrides: [seed=3]\n")
    assert overrides_for("tiny", "smoke-mine", tmp_path) == ["seed=3"], "params.yaml names this run"


def test_overrides_without_a_name_make_a_run_of_their_own(tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("models: [tiny]\nprofile: smoke\noverrides: [seed=3]\n")
    label = read_params(params).label
    assert label.startswith("smoke-")
    assert overrides_for("tiny", label, tmp_path) == ["seed=3"]
    with pytest.raises(UserError, match="profile: smoke-NAME"):
        overrides_for("tiny", "smoke", tmp_path)
    (tmp_path / ".one-run").touch()
    assert overrides_for("tiny", "smoke", tmp_path) == ["seed=3"], "a job of a sweep overwrites nothing"


@pytest.mark.parametrize("modules", ["[]", "[a,b]"])
@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_each_part_of_a_block_has_one_output(part, modules):
    with pytest.raises(UserError, match=rf"model\.family\.{part}\.modules is .*: name one, whose output is added"):
        compose("tiny", "smoke", [f"model.family.{part}.modules={modules}"])
