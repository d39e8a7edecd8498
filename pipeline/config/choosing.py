"""How a direction is found and chosen, and what it is held against."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.checks import check
from pipeline.names import ESTIMATOR_NAMES, MEAN_DIFFERENCE, RULES, TEXT_JUDGES

TOKEN_SOURCES = ("family", "auto")


@dataclass
class SelectConfig:
    rule: str = MISSING
    kl_threshold: float = MISSING
    induce_threshold: float = MISSING
    layer_share: float = MISSING
    gap_share: float = MISSING
    max_train: int = MISSING
    max_val: int = MISSING
    min_train: int = MISSING
    min_val: int = MISSING
    max_refusal_rate: float = MISSING

    def limits(self) -> dict[str, float]:
        """What `thresholds_for` asks for beside the rule."""
        return {
            "kl": self.kl_threshold,
            "induce": self.induce_threshold,
            "layer_share": self.layer_share,
            "gap_share": self.gap_share,
        }

    def __post_init__(self):
        check(self.rule in RULES, "select.rule", self.rule, f"use one of {', '.join(RULES)}")
        check(self.kl_threshold > 0, "select.kl_threshold", self.kl_threshold, "use a number above 0")
        for key in ("layer_share", "gap_share", "max_refusal_rate"):
            check(
                0 < getattr(self, key) <= 1,
                f"select.{key}",
                getattr(self, key),
                "use a share above 0, at most 1",
            )
        for key in ("max_train", "max_val", "min_train", "min_val"):
            check(getattr(self, key) >= 1, f"select.{key}", getattr(self, key), "use at least 1")


@dataclass
class ActivationsConfig:
    per_prompt: bool = False


@dataclass
class RefusalTokensConfig:
    source: str = MISSING
    judge: str = MISSING
    n_harmful: int = MISSING
    n_harmless: int = MISSING
    max_new_tokens: int = MISSING

    def __post_init__(self):
        choices = ", ".join(TOKEN_SOURCES)
        check(self.source in TOKEN_SOURCES, "refusal_tokens.source", self.source, f"use one of {choices}")
        check(self.judge in TEXT_JUDGES, "refusal_tokens.judge", self.judge, f"use one of {', '.join(TEXT_JUDGES)}")
        n = [self.n_harmful, self.n_harmless]
        check(min(n) >= 1 or max(n) == 0, "refusal_tokens.n_harmful, n_harmless", n, "use at least 1, or 0 for both")
        check(
            min(n) >= 1 or self.source != "auto",
            "refusal_tokens.source",
            self.source,
            "auto is found from answers: set n_harmful and n_harmless to 1 or more",
        )
        check(self.max_new_tokens >= 1, "refusal_tokens.max_new_tokens", self.max_new_tokens, "use at least 1")


@dataclass
class ControlsConfig:
    random: int = MISSING
    covariance: int = MISSING
    shuffled: int = MISSING
    answered: dict[str, int] = MISSING
    layer_share: float | None = MISSING

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind are drawn."""
        return {"random": self.random, "covariance": self.covariance, "shuffled": self.shuffled}

    def __post_init__(self):
        for key, n in self.counts.items():
            check(n >= 1, f"controls.{key}", n, "every effect needs a control: 1 or more")
        kinds, named = ", ".join(self.counts), self.answered.keys() == self.counts.keys()
        check(named, "controls.answered", dict(self.answered), f"give a number for each of {kinds}, and for no other")
        for key, n in self.answered.items():
            check(1 <= n <= self.counts[key], f"controls.answered.{key}", n, f"use 1 to controls.{key}")
        share = self.layer_share
        check(share is None or 0 < share < 1, "controls.layer_share", share, "use null or a share between 0 and 1")


@dataclass
class EstimatorsConfig:
    names: list[str] = MISSING
    positions: list[int] = MISSING
    layer_step: int = MISSING

    def __post_init__(self):
        unknown = [name for name in self.names if name not in ESTIMATOR_NAMES]
        check(not unknown, "estimators.names", unknown, f"use {', '.join(ESTIMATOR_NAMES)}")
        check(
            not self.names or MEAN_DIFFERENCE in self.names,
            "estimators.names",
            self.names,
            f"keep {MEAN_DIFFERENCE}, what the others are held against, or use [] for none",
        )
        check(
            len(self.positions) > 0 and all(position < 0 for position in self.positions),
            "estimators.positions",
            self.positions,
            "count from the end: -1 is the last token",
        )
        check(self.layer_step >= 1, "estimators.layer_step", self.layer_step, "use at least 1")


@dataclass
class StabilityConfig:
    n_resamples: int = MISSING
    n_splits: int = MISSING
    sizes: list[int] = MISSING
    n_draws: int = MISSING

    def __post_init__(self):
        check(self.n_resamples >= 100, "stability.n_resamples", self.n_resamples, "use at least 100")
        for key in ("n_splits", "n_draws"):
            check(getattr(self, key) >= 1, f"stability.{key}", getattr(self, key), "use at least 1")
        check(all(size >= 1 for size in self.sizes), "stability.sizes", self.sizes, "use numbers of prompts from 1")


@dataclass
class InvarianceConfig:
    judge: str = MISSING
    n_prompts: int = MISSING
    n_tokens: int = MISSING
    batch_sizes: list[int] = MISSING
    padding: int = MISSING

    def __post_init__(self):
        check(self.judge in TEXT_JUDGES, "invariance.judge", self.judge, f"use one of {', '.join(TEXT_JUDGES)}")
        check(self.n_prompts >= 0, "invariance.n_prompts", self.n_prompts, "use 0 (not measured) or more")
        for key in ("n_tokens", "padding"):
            check(getattr(self, key) >= 1, f"invariance.{key}", getattr(self, key), "use at least 1")
        check(all(size >= 1 for size in self.batch_sizes), "invariance.batch_sizes", self.batch_sizes, "use at least 1")
