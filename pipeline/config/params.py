"""params.yaml: which models, which profile, which overrides."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.errors import UserError


@dataclass
class Params:
    models: list[str] = field(default_factory=list)
    profile: str = "standard"
    overrides: list[str] = field(default_factory=list)


def read_params(path: Path = Path("params.yaml")) -> Params:
    """Typed params.yaml. Raises UserError for an unknown key, a wrong type or no model."""
    try:
        params = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Params), OmegaConf.load(path)))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run from the project's folder") from None
    except (OmegaConfBaseException, YAMLError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from None
    assert isinstance(params, Params)
    if not params.models:
        raise UserError(f"{path} names no model: add one of conf/model/ to `models`")
    return params
