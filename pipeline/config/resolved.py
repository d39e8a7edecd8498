"""The typed configuration of a run, from its resolved values."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.reading import merged, read_settings
from pipeline.config.schema import Config
from pipeline.disk.shape import made_again
from pipeline.errors import UserError


def load(path: Path) -> Config:
    """The typed configuration that `compose` wrote. Raises UserError when it is missing or invalid."""
    with made_again():
        raw = read_settings(path, missing="is missing: run `dvc repro` (stage compose writes it)")
        config = OmegaConf.to_object(checked(raw, str(path)))
    assert isinstance(config, Config)
    return config


def checked(raw: Any, where: str) -> DictConfig:
    """Hold values against the schema: unknown keys, wrong types, missing values, ranges."""
    try:
        config = merged(Config, raw)
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{where}: no value for {', '.join(missing)}: set it in conf/")
        OmegaConf.to_object(config)
    except (OmegaConfBaseException, MissingMandatoryValue, ValueError) as error:
        raise UserError(f"{where}: {one_line(error)}") from None
    assert isinstance(config, DictConfig)
    return config


def one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # OmegaConf adds the key and the object type on lines of their own; only the key helps a user.
    keep = lines[:1] + [line for line in lines[1:] if line.startswith(("full_key", "Key ", "Could not"))]
    return "; ".join(dict.fromkeys(keep))
