"""How answers are drawn at random, where they are not greedy."""

from dataclasses import asdict, dataclass
from typing import Any, cast

from omegaconf import MISSING

from pipeline.config.checks import check

OWN = "own"  # as the model's authors draw them
KEYS = ("temperature", "top_p", "top_k")


@dataclass
class SamplingConfig:
    """`top_p` 1 and `top_k` 0 leave every token in."""

    temperature: float = MISSING
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self):
        check(self.temperature > 0, "sampling.temperature", self.temperature, "use a number above 0")
        check(0 < self.top_p <= 1, "sampling.top_p", self.top_p, "use a number above 0, at most 1")
        check(self.top_k >= 0, "sampling.top_k", self.top_k, "use 0 (all tokens) or more")


def numbers(value: Any, where: str) -> dict[str, Any]:
    """All that SamplingConfig holds, from a mapping of some. Raises ValueError naming the key for anything else."""
    given = cast(dict[Any, Any], value) if isinstance(value, dict) else {}
    holds = {"temperature"} <= set(given) <= set(KEYS) and all(type(one) in (int, float) for one in given.values())
    check(holds, where, cast(object, value), f"use {OWN}, or {{temperature: 0.7, top_p: 0.8, top_k: 20}}")
    return asdict(SamplingConfig(**given))
