"""params.yaml and the runs it names: a run is a model with a profile and, where given, overrides and a name.

A run's label is `PROFILE` or `PROFILE-NAME`. Everything that a run makes is kept under its label, so that
runs stand side by side: another profile overwrites nothing.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.checks import require_no_resolvers
from pipeline.config.labels import require_label, require_name
from pipeline.config.reading import merged, read_settings
from pipeline.disk.files import read_text
from pipeline.disk.plain import parse_yaml
from pipeline.errors import UserError, first_line

ONE_RUN = ".one-run"  # a folder with this file holds one run alone, whose overrides need no name: a job of a sweep
LARGEST_LOCK = 2**25  # bytes


@dataclass
class Params:
    models: list[str] = field(default_factory=list[str])
    profile: str = "quick"
    overrides: list[str] = field(default_factory=list[str])
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
    raw = read_settings(path, missing="is missing: run from the project's folder")
    try:
        require_no_resolvers(OmegaConf.to_container(raw))
        if raw.get("overrides", ()) is None:  # the key with nothing behind it, when the last override was taken out
            raw.overrides = []
        params = OmegaConf.to_object(merged(Params, raw))
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path}: {first_line(error)}") from None
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
    """Every run that dvc.lock has an entry of, whichever is active. Raises UserError for what is no such file."""
    try:
        return sorted(_runs(lock), key=lambda run: (run.model, run.label))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise UserError(f"{lock} is not what DVC writes ({first_line(error)}): check it out again") from None


def _runs(lock: Path) -> Iterator[Run]:
    locked = cast(dict[str, Any], lock.exists() and parse_yaml(read_text(lock, largest=LARGEST_LOCK), str(lock)) or {})
    stages: dict[str, Any] = locked.get("stages", {})
    for name, entry in stages.items():
        if name.startswith("compose@"):
            *_, model, label, _ = Path(entry["outs"][0]["path"]).parts
            given: Any = entry.get("params", {}).get("params.yaml", {}).get("overrides") or []
            if not isinstance(given, list) or not all(isinstance(one, str) for one in cast(list[Any], given)):
                raise TypeError(f"overrides of {name}")
            yield Run(require_name("model", model), require_label(label), tuple(cast(list[str], given)))
