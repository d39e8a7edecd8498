"""conf/ + one model + a profile + overrides -> one resolved, checked configuration."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.config.checks import require_no_resolvers, require_short_references
from pipeline.config.family import Family
from pipeline.config.labels import require_name
from pipeline.config.overrides import require_overrides
from pipeline.config.place import CONF
from pipeline.config.reading import merged, require_conf
from pipeline.config.resolved import checked, one_line
from pipeline.errors import UserError

FEW = 8  # names that an error lists


def compose(model: str, profile: str, overrides: Sequence[str], conf: Path = CONF) -> DictConfig:
    """Resolved configuration of one model. Raises UserError naming the key, the value and the remedy."""
    _known(conf, "model", model)
    _known(conf, "profile", profile)
    try:
        require_overrides(overrides)
        values = _composed(conf, "config", [f"model={model}", f"profile={profile}", *overrides])
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"conf/ does not compose for model '{model}': {one_line(error)}") from None
    return checked(named(values, model), f"conf/ for model '{model}'")


def resolved(config: DictConfig, where: str) -> Any:
    """Plain values, with each reference replaced by what it refers to.

    Raises UserError for a reference that leads out of the configuration, to nothing, or on to another.
    """
    values = OmegaConf.to_container(config)
    try:
        require_no_resolvers(values)
        require_short_references(values)
        return OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{where}: {one_line(error)}") from None


def named(values: Any, model: str) -> Any:
    """The values with the model's name put in. Raises UserError where they have no place for one."""
    if not isinstance(values.get("model"), dict):
        raise UserError(f"conf/ does not compose for model '{model}': model is no group of values")
    return {**values, "model": {**values["model"], "name": model}}


def family(name: str, conf: Path = CONF) -> Family:
    """conf/family/<name>.yaml. Raises UserError for a name that is not there or a value out of range."""
    _known(conf, "family", name)
    try:
        loaded = OmegaConf.to_object(merged(Family, _composed(conf, f"family/{name}", [])["family"]))
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"conf/family/{name}.yaml: {one_line(error)}") from None
    assert isinstance(loaded, Family)
    return loaded


def _composed(conf: Path, name: str, overrides: Sequence[str]) -> Any:
    # Imported here: every stage reads a configuration that is composed already, and Hydra takes half a second.
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    require_conf(conf)
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf), version_base="1.3"):
            config = hydra.compose(name, list(overrides))
    except (HydraException, YAMLError) as error:
        raise ValueError(str(error)) from None
    return resolved(config, f"conf/{name}.yaml")


def _known(conf: Path, group: str, name: str) -> None:
    require_name(group, name)
    if not (conf / group / f"{name}.yaml").exists():
        names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        near = get_close_matches(name, names, n=FEW, cutoff=0.5) or names[:FEW]
        shown = names if len(names) <= FEW else [*near, f"{len(names) - len(near)} more"]
        raise UserError(f"unknown {group} '{name}': conf/{group}/ has {', '.join(shown)}")
