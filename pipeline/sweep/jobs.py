"""Jobs of a sweep: each the same DVC graph in a folder of its own that shares the project's DVC cache."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.labels import require_label, require_name
from pipeline.config.overrides import require_overrides
from pipeline.config.params import ONE_RUN
from pipeline.config.place import ROOT
from pipeline.disk import files
from pipeline.errors import UserError

JOBS = ROOT / ".sweep" / "jobs"
PROOF_ALONE = ("export.keep", "proof")  # of every job that does not set it: a full copy of the model each adds up


def job_folder(params: Mapping[str, Any]) -> Path:
    """The folder of a job, by what it is: the same overrides find their earlier results."""
    return JOBS / f"{params['models'][0]}-{files.content_hash(params)[:12]}"


def prepare(folder: Path, params: Mapping[str, Any], source: Path = ROOT) -> None:
    """Give the job its own copy of the code and configuration, and the project's DVC cache."""
    for name in ("conf", "pipeline"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for relative in _project_files(source):
        target = folder / relative
        if relative.name != "dvc.lock" or not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / relative, target)
    (folder / ONE_RUN).touch()
    with files.replacing(folder / "params.yaml") as path:
        OmegaConf.save(OmegaConf.create(with_proof_alone(params)), path)
    cache = source / ".dvc" / "cache"
    with files.replacing(folder / ".dvc" / "config.local") as path:
        path.write_text(f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n", encoding="utf-8")


def with_proof_alone(params: Mapping[str, Any]) -> dict[str, Any]:
    """The job's params.yaml, where it keeps of its export the proof alone unless an override says otherwise."""
    key, value = PROOF_ALONE
    given = {row.partition("=")[0].lstrip("+") for row in params["overrides"]}
    return {**params, "overrides": [*params["overrides"], *([] if key in given else [f"{key}={value}"])]}


def _project_files(source: Path) -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(command, cwd=source, capture_output=True)
    if result.returncode != 0:
        raise UserError(f"a sweep copies the files that git knows: {source} is not a git checkout")
    names = [Path(name) for name in os.fsdecode(result.stdout).split("\0") if name]
    return [name for name in names if name.parts[0] != "outputs" and (source / name).is_file()]


def run_job(folder: Path) -> None:
    """`dvc repro` in the job's folder. Raises UserError when a stage fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    result = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment)
    if result.returncode != 0:
        raise UserError(f"dvc repro failed in {folder}: the lines above say why")


def job_params(overrides: Sequence[str], choices: Mapping[str, str]) -> dict[str, Any]:
    """params.yaml of a job: model and profile by name, everything else as overrides.

    Raises UserError for names that are none, and for an override that is no single value.
    """
    named = {key: value for key, _, value in (row.partition("=") for row in overrides)}
    rest = sorted(row for row in overrides if row.partition("=")[0] not in ("model", "profile"))
    require_overrides(rest)
    return {
        "models": [require_name("model", str(named.get("model", choices["model"])))],
        "profile": require_label(str(named.get("profile", choices["profile"]))),
        "overrides": rest,
    }
