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
    places: list[str] = field(default_factory=list[str])
    column: str = "instruction"
    category: str = ""
    only: dict[str, str] = field(default_factory=dict[str, str])
    context: str = ""

    def __post_init__(self):
        if bool(self.sha256) != bool(self.places):
            raise ValueError(f"data: {self.file} needs both sha256 and places, or neither for a local file")


@dataclass
class TextSpec(FileSpec):
    """Texts of one file, or of a hub's data set at a commit.

    `column` is the document, or the instruction where `answer` names the column of its answer.
    """

    file: str = ""
    column: str = "text"
    answer: str = ""
    document: str = ""
    min_characters: int = 1
    repo: str = ""
    revision: str = ""
    split: str = "train"
    n_rows: int | None = None

    @property
    def name(self) -> str:
        """The file or the data set, as errors name it."""
        return self.file or self.repo

    def __post_init__(self):
        super().__post_init__()
        if bool(self.file) == bool(self.repo):
            raise ValueError(f"text: {self.name or self.source} needs a file or a repo, and not both")
        if self.repo and not re.fullmatch("[0-9a-f]{40}", self.revision):
            raise ValueError(f"text: revision of {self.repo} is '{self.revision}': use a commit of 40 hex digits")
        if self.min_characters < 1 or (self.n_rows is not None and self.n_rows < 1):
            raise ValueError(f"text: min_characters and n_rows of {self.name} are at least 1")
        try:
            groups = re.compile(self.document).groups
        except re.error as error:
            raise ValueError(f"text: document of {self.name} is no regular expression: {error}") from None
        if self.document and groups != 1:
            raise ValueError(f"text: document of {self.name} has {groups} groups: use one, what is in it is a document")


@dataclass
class TextConfig:
    """A preset: documents, and instructions with a reference answer, whose loss is measured."""

    name: str = MISSING
    folder: str = ""
    n_documents: int = MISSING
    n_answers: int = MISSING
    plain_text: list[TextSpec] = MISSING
    instruction_answers: list[TextSpec] = MISSING

    def __post_init__(self):
        for key in ("n_documents", "n_answers"):
            if getattr(self, key) < 0:
                raise ValueError(f"text.{key} is {getattr(self, key)}: use 0 (none) or more")
        for key in ("plain_text", "instruction_answers"):
            wrong = [spec.name for spec in getattr(self, key) if bool(spec.answer) != (key == "instruction_answers")]
            if wrong or not getattr(self, key):
                raise ValueError(
                    f"text.{key}: {wrong or 'empty'}: give files, with `answer` in instruction_answers alone"
                )


@dataclass
class PoolSpec:
    """Files of one class. An empty `val` or `test` is split off from the pool before it."""

    train: list[FileSpec] = MISSING
    val: list[FileSpec] = field(default_factory=list[FileSpec])
    test: list[FileSpec] = field(default_factory=list[FileSpec])

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
    sets: dict[str, SetSpec] = field(default_factory=dict[str, SetSpec])

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
