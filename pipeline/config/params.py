"""params.yaml and the runs it names: a run is a model with a profile and, where given, overrides and a name.

A run's label is `PROFILE` or `PROFILE-NAME`. Everything that a run makes is kept under its label, so that
runs stand side by side: another profile overwrites nothing.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.checks import require_no_resolvers
from pipeline.config.labels import require_label, require_name
from pipeline.config.reading import merged, read_settings
from pipeline.errors import UserError, first_line

ONE_RUN = ".one-run"  # a folder with this file holds one run alone, whose overrides need no name: a job of a sweep


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
