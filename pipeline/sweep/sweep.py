"""Sweep models and settings: python -m pipeline sweep -m model=a,b select.rule=paper,calibrated

A Hydra app. Each job is the same DVC graph in a folder of its own that shares the project's DVC
cache: nothing is computed twice and the workspace is left as it is. Hydra's launcher decides where
jobs run. A table of all jobs comes last.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from pipeline.artifacts import files
from pipeline.artifacts.layout import Layout
from pipeline.config.compose import ROOT, named, resolved
from pipeline.config.labels import require_label, require_name
from pipeline.config.overrides import require_overrides
from pipeline.config.params import ONE_RUN
from pipeline.config.resolved import checked
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.report.tables.cells import Shown

JOBS = ROOT / ".sweep" / "jobs"
LEAN = ("export.keep", "proof")  # of every job that does not set it: a full copy of the model each adds up
RECORD = "job.json"
COLUMNS = {
    "harmful, baseline": "harmful_baseline",
    "ablated": "harmful_ablation",
    "harmless, baseline": "harmless_baseline",
    "added": "harmless_addition",
}


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
        OmegaConf.save(OmegaConf.create(lean(params)), path)
    cache = source / ".dvc" / "cache"
    with files.replacing(folder / ".dvc" / "config.local") as path:
        path.write_text(f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n", encoding="utf-8")


def lean(params: Mapping[str, Any]) -> dict[str, Any]:
    """The job's params.yaml, where it keeps of its export the proof alone unless an override says otherwise."""
    key, value = LEAN
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


def job_params(overrides: list[str]) -> dict[str, Any]:
    """params.yaml of a job: model and profile by name, everything else as overrides.

    Raises UserError for names that are none, and for an override that is no single value.
    """
    named = {key: value for key, _, value in (row.partition("=") for row in overrides)}
    choices = HydraConfig.get().runtime.choices
    rest = sorted(row for row in overrides if row.partition("=")[0] not in ("model", "profile"))
    require_overrides(rest)
    return {
        "models": [require_name("model", str(named.get("model", choices["model"])))],
        "profile": require_label(str(named.get("profile", choices["profile"]))),
        "overrides": rest,
    }


def sweep_table(jobs: list[dict[str, Any]]) -> Shown:
    """A row per job: verdict, direction, and refusal scores with 95 % intervals."""
    table = Shown(title="refusal scores with 95 % intervals", title_justify="left")
    for name in ("model", "overrides", "verdict", "position, layer", *COLUMNS):
        table.add_column(name, overflow="fold")
    for job in jobs:
        metrics = files.read_json(Layout(job["models"][0], job["profile"], Path(job["folder"])).metrics)
        chosen = metrics["selection"]["chosen"]
        place = f"{chosen['position']}, {chosen['layer']}" if chosen else "-"
        rates = [_rate(metrics["refusal_score"].get(name)) for name in COLUMNS.values()]
        table.add_row(job["models"][0], " ".join(job["overrides"]) or "-", metrics["verdict"], place, *rates)
    return table


def _rate(rate: Mapping[str, Any] | None) -> str:
    return f"{rate['value']:.0%} [{rate['low']:.0%}, {rate['high']:.0%}]" if rate else "-"


class PrintTable(Callback):
    """Prints one table when every job of a sweep, or a single run, has ended."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Read the record that each job left in its Hydra folder."""
        records = sorted(Path(config.hydra.sweep.dir).glob(f"*/{RECORD}"), key=lambda path: int(path.parent.name))
        self._print([files.read_json(path) for path in records])

    def on_run_end(self, config: DictConfig, **_: Any) -> None:
        """The same for a run without -m."""
        record = Path(config.hydra.run.dir) / RECORD
        self._print([files.read_json(record)] if record.exists() else [])

    def _print(self, jobs: list[dict[str, Any]]) -> None:
        if jobs:
            Console(width=150).print(sweep_table(jobs))


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def main(config: DictConfig) -> None:
    """One job."""

    def run() -> None:
        # As they were typed: taken one by one, each reference in them would be replaced by its value.
        typed: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)
        params = job_params(typed)
        checked(named(resolved(config, "overrides"), params["models"][0]), "overrides")
        folder = job_folder(params)
        prepare(folder, params)
        run_job(folder)
        files.write_json(Path(HydraConfig.get().runtime.output_dir) / RECORD, {**params, "folder": str(folder)})

    guarded(run)


if __name__ == "__main__":
    main()
