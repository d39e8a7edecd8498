"""Which seeds and draws `python -m pipeline seeds` runs: conf/experiment/seeds.yaml, typed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.checks import check
from pipeline.config.labels import require_label
from pipeline.config.place import CONF
from pipeline.config.reading import merged, read_settings
from pipeline.config.sampling import OWN, numbers
from pipeline.errors import UserError, first_line

SETTINGS = Path("experiment") / "seeds.yaml"


@dataclass
class SeedsConfig:
    profile: str = MISSING
    seeds: list[int] = MISSING
    draws: int = MISSING
    sampling: Any = MISSING

    def __post_init__(self):
        each_once = len(set(self.seeds)) == len(self.seeds) >= 2
        check(each_once and min(self.seeds) >= 0, "seeds", list(self.seeds), "use two whole numbers from 0, or more")
        check(self.draws >= 0, "draws", self.draws, "use 0 or more")
        if self.sampling != OWN:
            self.sampling = numbers(self.sampling, "sampling")
        require_label(self.profile)

    @property
    def overrides(self) -> list[list[str]]:
        """What each run changes: the seeds first, then the draws of the first of them."""
        how: str = self.sampling
        if how != OWN:
            how = "{" + ",".join(f"{key}:{value}" for key, value in self.sampling.items()) + "}"
        first = f"seed={self.seeds[0]}"
        draws = [[f"generate.draw={draw}", f"generate.sampling={how}", first] for draw in range(self.draws)]
        return [*([f"seed={seed}"] for seed in self.seeds), *draws]


def read_seeds(conf: Path = CONF) -> SeedsConfig:
    """Raises UserError for an unknown or missing key, a wrong type, or a value out of range."""
    path = conf / SETTINGS
    try:
        settings = OmegaConf.to_object(merged(SeedsConfig, read_settings(path)))
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path}: {first_line(error)}") from None
    assert isinstance(settings, SeedsConfig)
    return settings
