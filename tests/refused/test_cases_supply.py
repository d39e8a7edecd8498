"""What a user supplies: names, configuration, files and servers, and what is said when they are not usable."""

import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.commands.select import read_candidates
from pipeline.config.compose import compose
from pipeline.config.data import FileSpec
from pipeline.config.labels import require_label, require_name
from pipeline.config.params import read_params
from pipeline.config.place import CONF
from pipeline.config.probe import read_spec
from pipeline.config.resolved import load
from pipeline.disk import files
from pipeline.errors import UserError
from pipeline.graph.runs import recorded_runs
from pipeline.prompts.load import load as load_prompts
from pipeline.suffix.files import read_list
from tests.helpers.cases import Cases, fails, one_line, refused
from tests.helpers.graph import Project

cases = Cases("Configuration and supply")

SHELL = (
    "a; touch made",
    "$(touch made)",
    "`touch made`",
    "a\ntouch made\n",
    "a' ; touch made '",
    'a" ; touch made "',
    "a|touch made",
    "-x",
    "--help",
)


def params_of(folder: Path, **values: Any) -> Path:
    """A params.yaml with these values."""
    path = folder / "params.yaml"
    path.write_text(json.dumps({"models": ["tiny"], "profile": "smoke", "overrides": [], **values}))
    return path


@cases("V01", "a model's or a profile's name that a shell would run", "`is no name`, and DVC runs nothing")
def names_under_dvc(tmp_path):
    project = Project(tmp_path / "project")
    for name in SHELL:
        for key, value in (("models", [name]), ("profile", name)):
            params_of(project.folder, **{key: value})
            result = project.module("dvc", "repro", check=False)
            assert result.returncode != 0, name
            one_line(result.stderr, "is no name")
            made = [path for path in project.folder.rglob("*made*") if "__pycache__" not in path.parts]
            assert not made, name
            assert not (project.folder / "outputs/models").exists(), name


@cases("V02", "a mapping or a list for a model's name, whose keys DVC would not quote", "DVC runs nothing")
def nested_names_under_dvc(tmp_path):
    project = Project(tmp_path / "project")
    for value in ({"; touch made;": "y"}, ["a; touch made"]):
        params_of(project.folder, models=[value])
        result = project.module("dvc", "repro", check=False)
        assert result.returncode != 0
        assert "Traceback" not in result.stderr
        assert not list(project.folder.glob("*made*"))


@cases("V03", "such a name in `make repro`, a stage's command line or params.yaml", "`is no name`")
def names_without_dvc(tmp_path):
    for name in (*SHELL, "", "..", "a..b", "a/../b", "a b", "é", "x" * 101):
        with refused("is no name"):
            require_name("model", name)
        with refused("is no name"):
            read_params(params_of(tmp_path, models=["tiny", name]))
        with refused("is no name"):
            compose(name, "smoke", [])
        with refused("is no name"):
            require_label(name)
        with refused("is no name"):
            read_params(params_of(tmp_path, profile=name))
    for name in ("tiny", "qwen2_5_coder_0_5b", "a.b", "A-1+x"):
        assert require_name("model", name) == name


@cases("V04", "a hub's id as a model's name", "how to add the model: a file in conf/model/")
def hub_id(tmp_path):
    with refused(r"'org/name-7B' is a hub's id.*conf/model/.*kind: hub"):
        read_params(params_of(tmp_path, models=["org/name-7B"]))


@cases("V05", "a stage's command line that is incomplete, or has a name that is none", "one line")
def stage_command(tmp_path):
    project = Project(tmp_path / "project")
    for words, pattern in (
        (["compose"], "--model"),
        (["compose", "--model", "--run", "smoke"], "smoke|--run"),
        (["nothing", "--model", "tiny", "--run", "smoke"], "no stage"),
        (["compose", "--model", "-x", "--run", "smoke"], "'-x' is no name"),
        (["compose", "--model", "a\x1b[31m", "--run", "smoke"], "is no name"),
    ):
        fails(project.module("pipeline.stages", *words, check=False), pattern)


SECRET = "not-to-be-seen-4711"
OUTSIDE = (
    "${oc.env:SECRET}",
    "x${oc.env:SECRET,none}",
    "${ oc.env : SECRET }",
    "${oc.decode:${oc.env:SECRET}}",
    "${now:%Y}",
)


def conf_with(folder: Path, name: str, text: str) -> Path:
    """A copy of conf/ in which one file holds this text."""
    copy = folder / "conf"
    if not copy.exists():
        shutil.copytree(CONF, copy)
    (copy / name).write_text(text, encoding="utf-8")
    return copy


def kept(name: str) -> str:
    """The text of a file of conf/."""
    return (CONF / name).read_text(encoding="utf-8")


def says(call: Callable[[], Any], pattern: str, within_s: float = 5.0) -> None:
    """The call is refused by one line with `pattern`, soon, and without the secret."""
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        call()
    one_line(f"error: {caught.value}", pattern)
    assert SECRET not in str(caught.value)
    assert time.monotonic() - started < within_s


@cases("V10", "`${oc.env:NAME}` or any other resolver in an override", "refused by key, its value not shown")
def resolver_in_override(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", SECRET)
    for text in OUTSIDE:
        says(lambda text=text: compose("tiny", "smoke", [f"model.title='{text}'"]), "model.title asks for a value")
        says(lambda text=text: compose("tiny", "smoke", [f"data={text}"]), "data asks for a value|not understood")
    says(lambda: compose("tiny", "smoke", [r"model.title='\${oc.env:SECRET}'"]), "model.title")
    project = Project(tmp_path / "project")
    params_of(project.folder, overrides=["model.title='${oc.env:SECRET}'"])
    result = project.stage("compose", check=False)
    fails(result, "overrides.0 asks for a value")
    assert SECRET not in result.stderr
    assert not list(project.folder.glob("outputs/models/**/config.yaml"))


@cases("V11", "a resolver in a file of conf/, or in a resolved config.yaml", "refused by file and key")
def resolver_in_conf(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", SECRET)
    tiny = kept("model/tiny.yaml")
    for text in OUTSIDE:
        conf = conf_with(tmp_path, "model/tiny.yaml", tiny.replace("apache-2.0", f'"{text}"'))
        says(lambda conf=conf: compose("tiny", "smoke", [], conf), "tiny.yaml: licence asks for a value")
    conf = conf_with(tmp_path, "model/tiny.yaml", tiny.replace("/family: tiny", '/family: "${oc.env:SECRET}"'))
    says(lambda: compose("tiny", "smoke", [], conf), "tiny.yaml: defaults.0./family asks for a value")
    conf = conf_with(tmp_path, "model/tiny.yaml", tiny.replace("apache-2.0", r'"\\${oc.env:SECRET}"'))
    says(lambda: compose("tiny", "smoke", [], conf), "licence")
    path = tmp_path / "config.yaml"
    resolved = OmegaConf.to_yaml(compose("tiny", "smoke", []))
    for text in (*OUTSIDE, "${seed}"):
        path.write_text(resolved.replace("apache-2.0", f'"{text}"'))
        says(lambda: load(path), "model.licence holds")


@cases("V12", "`${key}` of another value", "stands for that value; a chain of them is refused")
def references(tmp_path):
    assert compose("tiny", "smoke", ["model.title='of ${data.name}'"]).model.title == "of toy"
    says(lambda: compose("tiny", "smoke", ["model.title='${no.such}'"]), "no")
    keys = [f"model.chat.options.a{index}" for index in range(41)]
    chain = [f"+{key}='${{{after}}}${{{after}}}'" for key, after in itertools.pairwise(keys)]
    says(lambda: compose("tiny", "smoke", [*chain, f"+{keys[-1]}=x"]), "refers on")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)
PLAIN = {
    "aliases": (BOMB, "aliases written out"),
    "itself": ("a: &a [*a]\n", "aliases written out"),
    "brackets": ("a: " + "[" * 20_000, "nested more than"),
    "dashes": ("- " * 20_000, "nested more than"),
    "indents": ("".join(f"{' ' * n}a:\n" for n in range(900)), "nested more than"),
    "giant": ("a: " + "x" * (2**20 + 1), "larger than"),
    "tag": ("a: !!python/object/apply:os.system [id]\n", "has the tag"),
    "text in text": (f"|\n{''.join(f'  {line}' for line in BOMB.splitlines(keepends=True))}", "holds no settings"),
    "list": ("[1, 2]\n", "holds no settings"),
    "digits": ("a: " + "9" * 5000, "cannot be read"),
    "documents": ("a: 1\n---\nb: 1\n", "is not YAML"),
    "twice": ("seed: 1\nseed: 2\n", "seed"),
    "control": ("a: \x07\n", "is not YAML"),
}


@cases(
    "V20", "YAML whose aliases expand, nested thousands deep, giant, with tags", "one line, at once, in every reader"
)
def yaml_bombs(tmp_path):
    for text, pattern in PLAIN.values():
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        says(lambda path=path: read_params(path), pattern)
        says(lambda path=path: read_spec(path), pattern)
        says(lambda path=path: load(path), pattern)
        conf = conf_with(tmp_path, "data/mine.yaml", text)
        says(lambda conf=conf: compose("tiny", "smoke", [], conf), pattern)
    for name in ("aliases", "brackets", "tag", "digits", "control", "list"):
        path = tmp_path / "dvc.lock"
        path.write_text(PLAIN[name][0], encoding="utf-8")
        says(lambda path=path: recorded_runs(path), "dvc.lock")


@cases("V21", "a dvc.lock with other values than DVC writes", "one line: check it out again")
def damaged_lock(tmp_path):
    path = tmp_path / "dvc.lock"
    for entry in ("3", "{}", "{outs: []}", "{outs: [{path: a}]}", "{outs: [{path: [a]}]}", "[1]", "null"):
        path.write_text(f"stages: {{compose@x: {entry}}}\n")
        says(lambda: recorded_runs(path), "dvc.lock is not what DVC writes")
    path.write_text("stages: {compose@x: {outs: [{path: 'outputs/models/a; b/smoke/config.yaml'}]}}\n")
    says(lambda: recorded_runs(path), "'a; b' is no name")


@cases("V22", "overrides nested thousands deep or of a megabyte", "one line, at once")
def deep_overrides():
    for text in ("seed=" + "[" * 5000, "seed=" + "{a:" * 5000, "seed=" + "x" * 2**20, "seed=" + "int(" * 3000):
        says(lambda text=text: compose("tiny", "smoke", [text]), "override 'seed=.*too long or nested too deep")
    for text in (f"{'a' * 300}=1", f"~{'a' * 300}", f"+a.{'b' * 300}=1", f"model.{'1' * 300}_09='a=b'"):
        says(lambda text=text: compose("tiny", "smoke", [text]), r"override '.*has a key of \d+ characters")
    for key in ("select.kl_threshold", "seed", "model.title"):
        says(
            lambda key=key: compose("tiny", "smoke", [f"{key}={'9' * 400}"]), f"{key} is beyond .*use a smaller number"
        )


@cases("V23", "a pipe, a device or a folder in place of a file", "one line, at once")
def no_regular_file(tmp_path):
    pipe, folder = tmp_path / "pipe.jsonl", tmp_path / "folder.jsonl"
    os.mkfifo(pipe)
    folder.mkdir()
    spec = FileSpec(file="a.jsonl", source="test")
    readers = (
        files.read_json,
        files.read_jsonl,
        read_params,
        recorded_runs,
        load,
        read_spec,
        read_list,
        files.read_object,
    )
    readers += (lambda path: load_prompts(spec, path), lambda path: read_candidates(path))
    for path, pattern in ((pipe, "pipe"), (folder, "folder"), (Path("/dev/zero"), "device|unknown kind")):
        for reader in readers:
            says(lambda reader=reader, path=path: reader(path), pattern)
    conf = conf_with(tmp_path, "data/mine.yaml", "")
    (conf / "data/mine.yaml").unlink()
    os.mkfifo(conf / "data/mine.yaml")
    says(lambda: compose("tiny", "smoke", [], conf), "pipe")


@cases(
    "V24", "JSON nested thousands deep, with a key twice or a number of thousands of digits", "one line with its line"
)
def json_bombs(tmp_path):
    path = tmp_path / "a.jsonl"
    spec = FileSpec(file="a.jsonl", source="test")
    for text, pattern in (
        ("[" * 100_000, "nested too deep"),
        ('{"instruction": ' * 50_000, "nested too deep"),
        ('{"instruction": "a", "instruction": "b"}', "'instruction' comes twice"),
        (f'{{"instruction": {"9" * 5000}}}', "limit"),
        ('{"instruction": "\\ud800"}', "surrogate"),
    ):
        path.write_text(f'{{"instruction": "x"}}\n{text}\n')
        says(lambda: load_prompts(spec, path), "a.jsonl:2")
        if "surrogate" not in pattern:
            says(lambda: files.read_jsonl(path), f"a.jsonl:2.*{pattern}")


@cases("V25", "a byte-order mark before prompts, settings, scores or suffixes", "read as if it were not there")
def byte_order_mark(tmp_path):
    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8-sig")
        return path

    for name, text in (
        ("a.txt", "Say yes.\n"),
        ("a.jsonl", '{"instruction": "Say yes."}\n'),
        ("a.json", '[{"instruction": "Say yes."}]'),
        ("a.csv", "instruction\r\nSay yes.\r\n"),
        ("a.prompt", "seeds: [{instruction: Say yes.}]\n"),
    ):
        [prompt] = load_prompts(FileSpec(file=name, source="test"), written(name, text))
        assert prompt.instruction == "Say yes.", name
    assert files.read_json(written("b.json", "{}")) == {}
    assert read_list(written("list.txt", "! ! !\n")) == ["! ! !"]
    assert read_params(written("params.yaml", "models: [tiny]\nprofile: smoke\n")).models == ["tiny"]
    assert len(read_candidates(written("scores.csv", "position,layer,bypass,induce,kl\n-1,0,0,0,0\n"))) == 1
    assert recorded_runs(written("dvc.lock", "stages: {}\n")) == []


@cases("V30", "NaN, infinity or a giant integer as a number of the configuration", "refused with its key")
def numbers():
    for text, key in (
        ("select.kl_threshold=nan", "select.kl_threshold"),
        ("select.kl_threshold=inf", "select.kl_threshold"),
        ("select.kl_threshold='nan'", "select.kl_threshold"),
        ("select.kl_threshold=1e400", "select.kl_threshold"),
        ("select.induce_threshold=-inf", "select.induce_threshold"),
        ("generate.coefficient=nan", "generate.coefficient"),
        ("data.near_duplicate=nan", "data.near_duplicate"),
        ("+memory.limits.gpu0=inf", "memory.limits.gpu0"),
        ("+model.reference.layer=inf", "model.reference.layer"),
        ("+model.chat.options.x=nan", "model.chat.options.x"),
        (f"seed={2**53 + 1}", "seed"),
        ("seed=-1", "seed"),
        (f"generate.batch_size={10**10}", "generate.batch_size"),
        (f"generate.lengths=[{10**30}]", "generate.lengths.0"),
        (f"sizes.harmful.train={'9' * 400}", "sizes.harmful.train"),
        (f"sizes.harmful.train={'9' * 5000}", "sizes.harmful.train"),
    ):
        says(lambda text=text: compose("tiny", "smoke", [text]), key)


ROW = {"position": -1, "layer": 0, "bypass": 0.0, "induce": 0.0, "kl": 0.0}


@cases("V40", "the same candidate twice with other scores", "refused with its line; the same scores twice count once")
def candidate_twice(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps([ROW, {**ROW, "layer": 1}, {**ROW, "kl": 0.5}]))
    says(lambda: read_candidates(path), r"scores.json:3 gives position -1, layer 0 other scores")
    path.write_text(json.dumps([ROW, {**ROW, "kl": float("nan")}]))
    says(lambda: read_candidates(path), "other scores")
    path.write_text(json.dumps([{**ROW, "kl": float("nan")}] * 2))
    assert len(read_candidates(path)) == 1


@cases("V42", "scores of layer -1, of a layer that the model lacks, or of position 3.7", "refused with their line")
def outside_scores(tmp_path):
    path = tmp_path / "scores.csv"
    for place, pattern in (
        ("-1,-1", r"scores.csv:3 has layer -1, outside --layers 4"),
        ("-1,4", r"scores.csv:3 has layer 4, outside --layers 4"),
        ("3.7,1", r"scores.csv:3: position is '3.7': use a whole number"),
    ):
        path.write_text(f"position,layer,bypass,induce,kl\n-1,0,0,0,0\n{place},0,0,0\n")
        says(lambda: read_candidates(path, 4), pattern)


@cases("V41", "scores with semicolons, none at all, a JSON object, other types", "one line")
def odd_scores(tmp_path):
    for name, text, pattern in (
        ("a.csv", "position;layer;bypass;induce;kl\n-1;0;0;0;0\n", "separated by commas"),
        ("a.csv", "", "holds no candidate"),
        ("a.csv", "position,layer,bypass,induce,kl\n", "holds no candidate"),
        ("a.csv", "position,layer,bypass,induce,kl\n-1,0,0,0,0,7\n", "number of fields"),
        ("a.csv", "position,layer,bypass,induce,kl,kl\n-1,0,0,0,0,7\n", "column twice"),
        ("a.json", "{}", "list of rows"),
        ("a.json", json.dumps(ROW), "list of rows"),
        ("a.json", "[1]", "is no row"),
        ("a.json", json.dumps([{**ROW, "layer": 1.5}]), "whole number"),
        ("a.json", json.dumps([{**ROW, "layer": float("inf")}]), "whole number"),
        ("a.json", json.dumps([{**ROW, "layer": None}]), "whole number"),
        ("a.json", json.dumps([{**ROW, "kl": [1]}]), "not a number"),
        ("a.json", json.dumps([{**ROW, "kl": True}]), "not a number"),
        ("a.json", json.dumps([{**ROW, "kl_div_score": 1}]), "keep one"),
        ("a.json", "[" * 100_000, "nested too deep"),
        ("a.parquet", "PAR1", "unknown kind of file"),
    ):
        path = tmp_path / name
        path.write_text(text)
        says(lambda path=path: read_candidates(path), pattern)


@cases("V50", "`=`, `,`, blanks or brackets in an override's value", "the override by name, and how to quote it")
def unquoted_overrides():
    for text in ("model.title=a=b", "model.title=a,b", "model.title=(a)", "model.title=[a", "=x", "", "a b=c", "seed"):
        says(lambda text=text: compose("tiny", "smoke", [text]), rf"override '{re.escape(text)}' is not .*quotes")
    says(lambda: compose("tiny", "smoke", ["hydra.run.dir=x"]), "is of Hydra")
    says(lambda: compose("tiny", "smoke", ["hydra.searchpath=[x]"]), "is of Hydra")
    for value in ("a=b", "a,b", "a b", "(a)"):
        assert compose("tiny", "smoke", [f"model.title='{value}'"]).model.title == value


@cases("V51", "`overrides:` in params.yaml with nothing behind it", "as []: the same run")
def no_overrides(tmp_path):
    project = Project(tmp_path / "graph")
    project.params()
    assert project.repro("compose@tiny-smoke") == ["compose"]
    before, params = project.outs(), project.folder / "params.yaml"
    params.write_text("models: [tiny]\nprofile: smoke\noverrides:\n")
    assert read_params(params).overrides == []
    project.repro("compose@tiny-smoke")
    assert project.outs() == before
    assert [run.overrides for run in recorded_runs(project.folder / "dvc.lock")] == [()]
    assert project.repro("compose@tiny-smoke") == []


test_cases = cases.test()
