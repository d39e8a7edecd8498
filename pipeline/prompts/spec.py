"""What conf/data/ says: where instructions come from and how they are split."""

import re
from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class FileSpec:
    """One file of instructions: local, or fetched by sha256 from its places."""

    file: str = MISSING
    source: str = MISSING
    licence: str = "not stated"
    sha256: str = ""
    places: list[str] = field(default_factory=list)
    column: str = "instruction"
    category: str = ""
    only: dict[str, str] = field(default_factory=dict)
    context: str = ""

    def __post_init__(self):
        if bool(self.sha256) != bool(self.places):
            raise ValueError(f"data: {self.file} needs both sha256 and places, or neither for a local file")


@dataclass
class PoolSpec:
    """Files of one class. An empty `val` or `test` is split off from the pool before it."""

    train: list[FileSpec] = MISSING
    val: list[FileSpec] = field(default_factory=list)
    test: list[FileSpec] = field(default_factory=list)

    def __post_init__(self):
        if not self.train:
            raise ValueError("data: a class needs at least one file under train")


@dataclass
class SetSpec:
    """A further evaluation set. `kind`: whether a model should refuse it (harmful) or answer it (harmless)."""

    kind: str = MISSING
    files: list[FileSpec] = MISSING

    def __post_init__(self):
        if self.kind not in ("harmful", "harmless"):
            raise ValueError(f"data.sets: kind is {self.kind!r}: use harmful or harmless")
        if not self.files:
            raise ValueError("data.sets: a set needs at least one file")


@dataclass
class DataConfig:
    """A preset: the files of both classes and what to do with near-duplicates across sets."""

    name: str = MISSING
    harmful: PoolSpec = MISSING
    harmless: PoolSpec = MISSING
    near_duplicate: float = MISSING
    drop_near_duplicates: bool = MISSING
    sets: dict[str, SetSpec] = field(default_factory=dict)

    def __post_init__(self):
        for name in self.sets:
            if not re.fullmatch(r"[a-z0-9-]+", name) or name in ("harmful", "harmless"):
                raise ValueError(f"data.sets: {name!r} is no name for a set: use a-z, 0-9 and hyphens, not the kinds")
        if not 0 < self.near_duplicate <= 1:
            raise ValueError(f"data.near_duplicate is {self.near_duplicate}: use a similarity above 0, at most 1")


@dataclass
class SplitSizes:
    """Prompts per set of one class."""

    train: int = MISSING
    val: int = MISSING
    test: int = MISSING

    def __post_init__(self):
        for key in ("train", "val", "test"):
            if getattr(self, key) < 1:
                raise ValueError(f"sizes: {key} is {getattr(self, key)}: use at least 1")
