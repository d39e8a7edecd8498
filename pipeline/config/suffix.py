"""The values of `conf/suffix/`, with their ranges."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from pipeline.config.checks import DTYPES, check
from pipeline.names import TEXT_JUDGES

SOURCES = ("none", "given", "found")


@dataclass
class SuffixConfig:
    """Where adversarial suffixes come from, and how much of their analysis is done."""

    source: str = MISSING
    texts: list[str] = field(default_factory=list[str])
    file: str = ""
    sha256: str = ""
    places: list[str] = field(default_factory=list[str])
    made_for: str = ""
    dtype: str = MISSING
    n_choosing: int = MISSING
    n_prompts: int = MISSING
    n_random: int = MISSING
    n_heads: int = MISSING
    n_random_heads: int = MISSING
    max_new_tokens: int = MISSING
    judge: str = MISSING

    def __post_init__(self):
        check(self.source in SOURCES, "suffix.source", self.source, f"use one of {', '.join(SOURCES)}")
        check(self.dtype in DTYPES, "suffix.dtype", self.dtype, f"use one of {', '.join(DTYPES)}")
        check(self.judge in TEXT_JUDGES, "suffix.judge", self.judge, f"use one of {', '.join(TEXT_JUDGES)}")
        for key in ("n_choosing", "n_prompts"):
            check(getattr(self, key) >= 8, f"suffix.{key}", getattr(self, key), "fewer than 8 prompts have no interval")
        for key in ("n_random", "n_heads", "n_random_heads", "max_new_tokens"):
            check(getattr(self, key) >= 1, f"suffix.{key}", getattr(self, key), "use at least 1")
        check(
            all(text.strip() for text in self.texts), "suffix.texts", self.texts, "an empty suffix is none: remove it"
        )
        check(
            self.source != "given" or bool(self.texts) != bool(self.file),
            "suffix.texts",
            self.texts,
            "source given needs suffix.texts or suffix.file (a suffix a line), and not both",
        )
        needs_hash = (self.source == "given" and bool(self.file)) or self.source == "found"
        check(
            not needs_hash or len(self.sha256) == 64,
            "suffix.sha256",
            self.sha256,
            "give the file's sha256 (sha256sum FILE), so that another file is measured anew",
        )
