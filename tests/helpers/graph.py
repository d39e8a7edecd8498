"""A copy of the project in a folder of its own, to run the real graph in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from pipeline.config.params import ONE_RUN
from tests.conftest import ROOT
from tests.helpers import preloaded

RUN = "smoke"
STAGES = [name for name in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"] if name != "code"]
LEAN = """\
evaluate: {n_prompts: 0, effects: [ablation, addition]}
estimators: {names: []}
stability: {sizes: []}
invariance: {n_prompts: 0}
loss: {n_completions: 0}
text: {n_documents: 0, n_answers: 0}
refusal_tokens: {n_harmful: 0, n_harmless: 0}
controls: {layer_share: null}
"""
PARAMS = "models: [{models}]\nprofile: {profile}\noverrides: [{overrides}]\n"


class Project:
    """The project's files in `folder`, with a DVC cache of their own and the tiny model selected."""

    def __init__(self, folder: Path, git: bool = False, one_run: bool = True, preloaded: bool = True):
        """`one_run`: overrides change that run, as in a job of a sweep, instead of making another.

        `preloaded`: processes are forks of one that has loaded the libraries.
        """
        self.folder, self.preloaded = folder, preloaded
        folder.mkdir(exist_ok=True)
        if one_run:
            (folder / ONE_RUN).touch()
        for name in ("pipeline", "conf", "tests/data"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", "requirements.lock", "pyproject.toml"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.params()
        if git:
            self.run("git", "init", "-q")
        else:
            (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")

    @classmethod
    def copied(cls, finished: Path, folder: Path) -> "Project":
        """A project of its own with all that another has made."""
        shutil.copytree(finished, folder, symlinks=True, dirs_exist_ok=True)
        project = cls.__new__(cls)
        project.folder, project.preloaded = folder, True
        return project

    def params(self, models: str = "tiny", overrides: str = "", profile: str = RUN) -> None:
        text = PARAMS.format(models=models, overrides=overrides, profile=profile)
        (self.folder / "params.yaml").write_text(text)

    def lean_profile(self, name: str, own: str = "") -> None:
        """A profile of the least that the graph can do, with some values of its own."""
        folder = self.folder / "conf" / "profile"
        smoke = (folder / "smoke.yaml").read_text().replace("  - override /capability: toy\n", "")
        (folder / f"{name}_base.yaml").write_text(smoke)
        head = f"# @package _global_\ndefaults:\n  - {name}_base\n  - override /capability: none\n  - _self_\n"
        (folder / f"{name}.yaml").write_text(head + LEAN + own)

    def stage(self, name: str, check: bool = True) -> subprocess.CompletedProcess:
        """One stage of the tiny model's run, without DVC."""
        return self.module("pipeline.stages", name, "--model", "tiny", "--run", RUN, check=check)

    def at(self, kind: str) -> Path:
        """The folder of the tiny model's run in outputs/<kind>."""
        return self.folder / "outputs" / kind / "tiny" / RUN

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        found = [Path(command[0]).parent] if self.preloaded and command[0] == preloaded.python() else []
        folders = [*found, Path(sys.executable).parent, os.environ["PATH"]]
        environment = {**os.environ, "PATH": os.pathsep.join(map(str, folders))}
        environment.pop("PYTHONPATH", None)
        result = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def module(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        python = preloaded.python() if self.preloaded else sys.executable
        return self.run(python, "-m", name, *arguments, check=check)

    def repro(self, *arguments: str) -> list[str]:
        """`dvc repro`; the stages that really ran."""
        out = self.module("dvc", "repro", *arguments).stdout
        lines = out.splitlines()
        ran = [line.split("'")[1].split("@")[0] for line in lines if line.startswith("Running stage")]
        return [name for name in ran if name != "code"]  # which always runs

    def outs(self) -> dict[str, bytes]:
        """Every output by name, but what stages cost, which is of a machine and no artefact."""
        files = (path for path in (self.folder / "outputs").rglob("*") if path.is_file() and path.name != ".gitignore")
        names = {str(path.relative_to(self.folder)): path for path in files}
        return {name: path.read_bytes() for name, path in names.items() if not name.startswith("outputs/bench/")}
