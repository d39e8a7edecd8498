"""What a user supplies: names, configuration, files and servers, and what is said when they are not usable."""

import json
from pathlib import Path
from typing import Any

from pipeline.config.compose import compose
from pipeline.config.names import require_label, require_name
from pipeline.config.params import read_params
from tests.cases import Cases, fails, one_line, refused
from tests.graph import Project

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


test_cases = cases.test()
