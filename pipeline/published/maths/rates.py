"""Published attack success rates (section 3), and cross-entropy losses with perplexities (section 4.3)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.maths.statistics import Estimate, wilson
from pipeline.published.maths.checks import Check, steady

PROMPTS = 100  # JailbreakBench, and as many harmless prompts


@dataclass(frozen=True)
class RateReplay:
    """The score that is 1 minus a published success rate, as a share of whole prompts, with its interval."""

    name: str
    score: Estimate
    published: float

    def checks(self) -> list[Check]:
        """The published rate is a whole number of prompts."""
        assert self.score.value is not None, "a score of at least one prompt"
        return [Check(self.name, self.score.value, self.published, abs(self.score.value - self.published), 1e-9)]


@dataclass(frozen=True)
class LossReplay:
    """Cross-entropy (nats per token) of a text under an intervention, and its change from the baseline.

    perplexity is exp(ce_loss), and relative its relative difference from the published one.
    """

    name: str
    ce_loss: float
    change: float
    perplexity: float
    published: float
    relative: float

    def checks(self) -> list[Check]:
        """The published perplexity is exp(loss)."""
        return [Check(f"perplexity, {self.name}", self.perplexity, self.published, self.relative, 1e-6)]


def replay_rate(name: str, success_rate: float, n: int = PROMPTS) -> RateReplay:
    """score = 1 - success rate, with its 95 % Wilson interval (section 3: substring refusals, Llama Guard 2).

    Raises ValueError for a rate outside 0 to 1.
    """
    if not 0 <= success_rate <= 1:
        raise ValueError(f"'{name}' is {success_rate}, not a rate between 0 and 1")
    count = n - round(success_rate * n)
    low, high = (round(bound, 12) for bound in wilson(count, n))
    return RateReplay(name, Estimate(count / n, low, high, n), steady(1 - success_rate))


def replay_losses(losses: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[LossReplay]:
    """perplexity = exp(ce_loss), and ce_loss - baseline ce_loss, by intervention and text (section 4.3).

    Raises ValueError for a loss that has no finite perplexity, no baseline, or one of another number of tokens.
    """
    if missing := {text for texts in losses.values() for text in texts} - set(losses.get("baseline", {})):
        raise ValueError(f"no baseline loss of {', '.join(sorted(missing))}")
    return [
        _replay_loss(f"{text}, {intervention}", row, losses["baseline"][text])
        for intervention, texts in losses.items()
        for text, row in texts.items()
    ]


def _replay_loss(name: str, row: Mapping[str, float], baseline: Mapping[str, float]) -> LossReplay:
    if not (0 <= row["ce_loss"] < 700 and 1 <= row["perplexity"] < math.inf):
        raise ValueError(f"{name}: loss {row['ce_loss']} and perplexity {row['perplexity']} are not of any text")
    if row["n_tokens"] != baseline["n_tokens"]:
        raise ValueError(f"{name}: {row['n_tokens']} tokens, and {baseline['n_tokens']} for the baseline")
    perplexity = math.exp(row["ce_loss"])
    return LossReplay(
        name=name,
        ce_loss=row["ce_loss"],
        change=row["ce_loss"] - baseline["ce_loss"],
        perplexity=steady(perplexity),
        published=row["perplexity"],
        relative=round(abs(perplexity / row["perplexity"] - 1), 12),
    )
