"""params.yaml and the runs it names: a run is a model with a profile and, where given, overrides and a name.

A run's label is `PROFILE` or `PROFILE-NAME`. Everything that a run makes is kept under its label, so that
runs stand side by side: another profile overwrites nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.config.names import require_label, require_name
from pipeline.errors import UserError

ONE_RUN = ".one-run"  # a folder with this file holds one run alone, whose overrides need no name: a job of a sweep


@dataclass
class Params:
    models: list[str] = field(default_factory=list)
    profile: str = "quick"
    overrides: list[str] = field(default_factory=list)
    one_run = False  # no value of the file: whether its folder holds one run alone

    @property
    def label(self) -> str:
        """The run's label: `profile`, with a name made from the overrides where they have none."""
        if not self.overrides or "-" in self.profile or self.one_run:
            return self.profile
        return f"{self.profile}-{hashlib.sha256(json.dumps(self.overrides).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Run:
    """A model under a label, with the overrides that it was made with."""

    model: str
    label: str
    overrides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.model}, {self.label}"


def read_params(path: Path = Path("params.yaml")) -> Params:
    """Typed params.yaml. Raises UserError for an unknown key, a wrong type, no model, or names that are none."""
    try:
        params = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Params), OmegaConf.load(path)))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run from the project's folder") from None
    except (OmegaConfBaseException, YAMLError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from None
    assert isinstance(params, Params)
    if not params.models:
        raise UserError(f"{path} names no model: add one of conf/model/ to `models`")
    for model in params.models:
        require_name("model", model)
    require_label(params.profile)
    params.one_run = (path.parent / ONE_RUN).exists()
    return params


def profile_of(label: str) -> str:
    """The profile behind a label."""
    return label.partition("-")[0]


def overrides_for(model: str, label: str, root: Path = Path()) -> list[str]:
    """The overrides of a run: those of params.yaml where it names this run, else those it was last made with.

    Raises UserError where params.yaml has overrides and `label` is the bare profile: they make another run.
    """
    params = read_params(root / "params.yaml")
    if label == params.label:
        return params.overrides
    if label == params.profile:
        raise UserError(
            f"params.yaml changes profile '{label}' by overrides, which makes another run: name it "
            f"(profile: {label}-NAME), or use `make repro`, which does"
        )
    recorded = {(run.model, run.label): run for run in recorded_runs(root / "dvc.lock")}
    run = recorded.get((model, label))
    return list(run.overrides) if run else []


def recorded_runs(lock: Path = Path("dvc.lock")) -> list[Run]:
    """Every run that dvc.lock has an entry of, whichever is active."""
    runs = []
    for name, entry in _locked(lock).items():
        if name.startswith("compose@"):
            *_, model, label, _ = Path(entry["outs"][0]["path"]).parts
            given: Sequence[str] = entry.get("params", {}).get("params.yaml", {}).get("overrides", [])
            runs.append(Run(model, label, tuple(given)))
    return sorted(runs, key=lambda run: (run.model, run.label))


def _locked(lock: Path) -> dict[str, Any]:
    import yaml

    if not lock.exists():
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return (yaml.load(lock.read_text(encoding="utf-8"), loader) or {}).get("stages", {})
    except YAMLError as error:
        raise UserError(f"{lock} is not YAML ({str(error).splitlines()[0]}): check it out again") from None
