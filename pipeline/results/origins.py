"""What the numbers were measured on and made from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SurfaceAuroc:
    """How well the form of a prompt alone tells the classes apart; 0.5 is not at all."""

    value: float | None
    low: float | None
    high: float | None
    n_harmful: int
    n_harmless: int


@dataclass(frozen=True)
class NearDuplicates:
    """Two prompts that are nearly the same."""

    ids: list[str]
    similarity: float
    """Cosine of character n-gram TF-IDF."""


@dataclass(frozen=True)
class Prompts:
    """What was measured on."""

    hashes: dict[str, str]
    """By set."""
    surface_auroc: dict[str, SurfaceAuroc | None]
    """By split."""
    shared_with_fitted: dict[str, list[NearDuplicates]]
    """Further sets, with the prompts that found the direction."""


@dataclass(frozen=True)
class Answers:
    """How answers were made."""

    how: str
    """`greedy`, the likeliest token each time, or `sampled`, drawn from those that the rest says; null where greedy."""
    temperature: float | None
    top_p: float | None
    """1: no token is left out for it."""
    top_k: int | None
    """0: no token is left out for it."""
    draw: int | None
    """Which of the random answers that the seed gives."""


@dataclass(frozen=True)
class Provenance:
    """What the numbers were made from: nothing that changes from run to run."""

    model: str
    tokenizer: str
    chat_template: str
    config: str
    data: str
    data_revision: str
    dtype: str
    device: str
    quantize: str
    seed: int
    packages: dict[str, str]
