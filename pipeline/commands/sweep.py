"""Sweep models and settings: python -m pipeline sweep -m model=a,b select.rule=paper,calibrated

A Hydra app. Each job is the same DVC graph in a folder of its own that shares the project's DVC cache: nothing is
computed twice and the workspace is left as it is. Hydra's launcher decides where jobs run. A table of all jobs comes
last.
"""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipeline.config.compose import named, resolved
from pipeline.config.place import CONF
from pipeline.config.resolved import checked
from pipeline.disk import files
from pipeline.entry.program import guarded
from pipeline.sweep.jobs import job_folder, job_params, prepare, run_job
from pipeline.sweep.table import RECORD


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def main(config: DictConfig) -> None:
    """One job."""

    def run() -> None:
        # As they were typed: taken one by one, each reference in them would be replaced by its value.
        typed: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)
        params = job_params(typed, HydraConfig.get().runtime.choices)
        checked(named(resolved(config, "overrides"), params["models"][0]), "overrides")
        folder = job_folder(params)
        prepare(folder, params)
        run_job(folder)
        files.write_json(Path(HydraConfig.get().runtime.output_dir) / RECORD, {**params, "folder": str(folder)})

    guarded(run)
