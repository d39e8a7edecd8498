"""YAML files of settings: plain values, of bounded size, before anything makes sense of them."""

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from pipeline.artifacts.files import read_text
from pipeline.artifacts.plain import parse_yaml
from pipeline.config.checks import require_no_resolvers
from pipeline.errors import UserError, first_line

LARGEST = 2**20  # bytes of a file of settings
MISSING = "is missing: check it out again"
HYDRA = "hydra"  # settings of the sweep's program, which are no values of a run


def read_settings(path: Path, missing: str = MISSING) -> DictConfig:
    """A file of settings, references in it as they stand. Raises UserError for what is no plain mapping."""
    text = read_text(path, missing=missing, largest=LARGEST)
    _require_mapping(parse_yaml(text, str(path)), path)
    try:
        values = OmegaConf.load(io.StringIO(text))
    except (YAMLError, ValueError) as error:  # a key twice
        raise UserError(f"{path} is not YAML of settings ({' '.join(str(error).split())})") from None
    assert isinstance(values, DictConfig)
    return values


def require_conf(conf: Path) -> None:
    """Raises UserError for a file below `conf` that is no plain YAML, or that asks for values from outside."""
    for path in sorted(conf.rglob("*.yaml")):
        try:
            stat = path.stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): check it out again") from None
        _require_file(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@lru_cache(maxsize=1024)
def _require_file(path: Path, _version: tuple[int, int, int]) -> None:
    values = parse_yaml(read_text(path, missing=MISSING, largest=LARGEST), str(path))
    _require_mapping(values, path)
    try:
        require_no_resolvers({key: value for key, value in (values or {}).items() if key != HYDRA})
    except ValueError as error:
        raise UserError(f"{path}: {first_line(error)}") from None


def _require_mapping(values: Any, path: Path) -> None:
    if not isinstance(values, dict | None):
        raise UserError(f"{path} holds no settings: write `key: value` lines")
