"""YAML files of settings: plain values, of bounded size, before anything makes sense of them."""

# pyright: reportPrivateUsage=false
# OmegaConf says publicly neither what elements a list takes nor whether a node is empty.

import io
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.config.checks import require_no_references, require_no_resolvers, require_not_giant, require_numbers
from pipeline.disk.files import read_text
from pipeline.disk.plain import parse_yaml
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
    except (OmegaConfBaseException, YAMLError, ValueError) as error:  # a key twice, half of a reference
        raise UserError(f"{path} is not YAML of settings ({first_line(error)})") from None
    assert isinstance(values, DictConfig)
    return values


def merged(schema: type, raw: Any) -> Any:
    """Values in the types of a schema. Raises ValueError or OmegaConf's errors for those that do not fit, that are
    not settled, and for numbers of no use."""
    given = OmegaConf.to_container(raw) if isinstance(raw, DictConfig) else raw
    require_no_references(given)
    require_not_giant(given)
    values = OmegaConf.merge(OmegaConf.structured(schema), raw)
    _require_elements(values)
    require_numbers(OmegaConf.to_container(values))
    return values


def _require_elements(values: Any, key: str = "") -> None:
    """Raises ValueError for a group in a list of plain values, which OmegaConf lets in."""
    if not isinstance(values, DictConfig | ListConfig) or values._is_none() or values._is_missing():
        return
    names = range(len(values)) if isinstance(values, ListConfig) else list(values.keys())
    for name in names:
        child, at = values._get_node(name), f"{key}.{name}" if key else str(name)  # type: ignore[arg-type]
        if isinstance(child, DictConfig | ListConfig) and values._metadata.element_type in (str, int, float, bool):
            raise ValueError(f"{at} is a group of values: use a single one")
        _require_elements(child, at)


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
        require_no_resolvers({key: value for key, value in cast(dict[str, Any], values or {}).items() if key != HYDRA})
    except ValueError as error:
        raise UserError(f"{path}: {first_line(error)}") from None


def _require_mapping(values: Any, path: Path) -> None:
    if not isinstance(values, dict | None):
        raise UserError(f"{path} holds no settings: write `key: value` lines")
