"""Choosing one direction from the candidates' scores (paper, section 2.3 and appendix C)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.names import RULES

FITTED_SETS = ("harmful_train", "harmful_val", "harmless_train", "harmless_val")
Place = tuple[int, int]  # position, counted from the end of the prompt, and layer
FILTERS = ("zero_norm", "not_finite", "late_layer", "kl", "induce", "bypass")


@dataclass(frozen=True)
class CandidateScores:
    """The scores of the candidate direction at (position, layer), measured on val prompts.

    bypass: mean refusal metric on harmful under ablation; induce: mean refusal metric on harmless
    with the direction added; kl: mean KL(baseline || ablated) on harmless. Nats. `n_harmful`, `n_harmless`: the
    prompts behind the scores, None where a table does not say.
    """

    position: int
    layer: int
    bypass: float
    induce: float
    kl: float
    zero_norm: bool = False
    n_harmful: int | None = None
    n_harmless: int | None = None

    @classmethod
    def without_direction(cls, position: int, layer: int) -> "CandidateScores":
        """A candidate whose two means are equal: it has no direction and so no scores."""
        return cls(position, layer, math.nan, math.nan, math.nan, zero_norm=True, n_harmful=0, n_harmless=0)


@dataclass(frozen=True)
class PromptScores:
    """The three scores prompt by prompt: bypass of every harmful val prompt, induce and kl of every harmless one."""

    bypass: tuple[float, ...]
    induce: tuple[float, ...]
    kl: tuple[float, ...]

    def candidate(self, position: int, layer: int) -> CandidateScores:
        """Their means, as the scores of a candidate."""
        bypass, induce, kl = (_mean(rows) for rows in (self.bypass, self.induce, self.kl))
        n, m = len(self.bypass), len(self.induce)
        return CandidateScores(position, layer, bypass, induce, kl, n_harmful=n, n_harmless=m)

    @classmethod
    def of(cls, record: Mapping[str, Sequence[float | None]]) -> "PromptScores":
        """The inverse of `record`; None becomes NaN."""
        rows = (record[name] for name in ("bypass", "induce", "kl"))
        return cls(*(tuple(math.nan if value is None else value for value in row) for row in rows))

    @property
    def record(self) -> dict[str, list[float | None]]:
        """As plain JSON values; NaN and infinity, which JSON does not have, become None."""
        rows = {"bypass": self.bypass, "induce": self.induce, "kl": self.kl}
        return {name: [value if math.isfinite(value) else None for value in row] for name, row in rows.items()}


def _mean(rows: Sequence[float]) -> float:
    return math.fsum(rows) / len(rows) if rows else math.nan


@dataclass(frozen=True)
class Baselines:
    """Mean refusal metric of the unchanged model on the harmful and harmless val prompts, in nats."""

    harmful: float
    harmless: float


@dataclass(frozen=True)
class Thresholds:
    """What a candidate must satisfy: kl <= kl, induce >= induce, bypass <= bypass, layer < max_layer."""

    kl: float
    induce: float
    bypass: float
    max_layer: int


@dataclass(frozen=True)
class Selection:
    """The chosen candidate, or None and the reason why; `removed_by` has every rejected candidate once."""

    rule: str
    thresholds: Thresholds
    chosen: CandidateScores | None
    kept: tuple[CandidateScores, ...]
    removed_by: dict[str, tuple[CandidateScores, ...]]
    nearest: tuple[CandidateScores, ...]


def max_layer_for(layer_share: float, n_layers: int) -> int:
    """First layer that is too late to choose: int(layer_share * L), as in the paper's code."""
    return int(n_layers * layer_share)


def places_at(
    positions: Sequence[int], layer_step: int, layer_share: float, n_positions: int, n_layers: int
) -> list[Place]:
    """Every `layer_step`-th layer down from the last that can be chosen, at each position that the template has."""
    layers = range(max_layer_for(layer_share, n_layers) - 1, -1, -layer_step)
    known = [position for position in positions if position >= -n_positions]
    return [(position, layer) for position in known for layer in sorted(layers)]


def thresholds_for(
    rule: str,
    n_layers: int,
    *,
    kl: float = 0.1,
    induce: float = 0.0,
    layer_share: float = 0.8,
    gap_share: float = 0.5,
    baselines: Baselines | None = None,
) -> Thresholds:
    """Thresholds of a named rule.

    `paper`: kl, induce >= 0, layer < int(0.8 L), the bounds as in the paper's code; bypass unbounded.
    `calibrated`: the same kl and layer bounds; adding the direction must close at least `gap_share`
    of the gap from the model's harmless to its harmful baseline, and ablating it the same share of
    the gap from harmful to harmless. Raises ValueError for an unknown rule or one that lacks its baselines.
    """
    max_layer = max_layer_for(layer_share, n_layers)
    if rule not in RULES:
        raise ValueError(f"unknown rule '{rule}'")
    if rule == "paper":
        return Thresholds(kl=kl, induce=induce, bypass=math.inf, max_layer=max_layer)
    if baselines is None:
        raise ValueError("rule calibrated needs the model's harmful and harmless baselines")
    gap = baselines.harmful - baselines.harmless
    return Thresholds(
        kl=kl,
        induce=baselines.harmless + gap_share * gap,
        bypass=baselines.harmful - gap_share * gap,
        max_layer=max_layer,
    )


def rejection(candidate: CandidateScores, thresholds: Thresholds) -> str | None:
    """Name of the first filter that removes the candidate, in the order of FILTERS, or None."""
    tests = {
        "zero_norm": candidate.zero_norm,
        "not_finite": not all(map(math.isfinite, (candidate.bypass, candidate.induce, candidate.kl))),
        "late_layer": candidate.layer >= thresholds.max_layer,
        "kl": candidate.kl > thresholds.kl,
        "induce": candidate.induce < thresholds.induce,
        "bypass": candidate.bypass > thresholds.bypass,
    }
    return next((name for name, fails in tests.items() if fails), None)


def shortfall(candidate: CandidateScores, thresholds: Thresholds) -> float:
    """How far a finite candidate is from passing: the largest overshoot of any score threshold."""
    return max(
        candidate.kl - thresholds.kl,
        thresholds.induce - candidate.induce,
        candidate.bypass - thresholds.bypass,
    )


def select(scores: Sequence[CandidateScores], thresholds: Thresholds, rule: str, n_nearest: int = 5) -> Selection:
    """Smallest bypass among the candidates that every filter keeps; None when it keeps none.

    Ties go to the earlier row. NaN and zero-norm candidates are never chosen.
    """
    removed: dict[str, list[CandidateScores]] = {name: [] for name in FILTERS}
    kept: list[CandidateScores] = []
    for candidate in scores:
        name = rejection(candidate, thresholds)
        (kept if name is None else removed[name]).append(candidate)
    misses = [c for name in ("kl", "induce", "bypass") for c in removed[name]]
    return Selection(
        rule=rule,
        thresholds=thresholds,
        chosen=min(kept, key=lambda c: c.bypass) if kept else None,
        kept=tuple(kept),
        removed_by={name: tuple(rows) for name, rows in removed.items()},
        nearest=tuple(sorted(misses, key=lambda c: shortfall(c, thresholds))[:n_nearest]),
    )


NO_REFUSAL = "no_refusal_behaviour"
REFUSES_ALL = "refuses_everything"
NO_ANSWERS = "no_answers"
TOO_FEW = "too_few_prompts"
NO_DIRECTION = "no_direction_selected"
FOUND = "direction_selected"


@dataclass(frozen=True)
class FilterVerdict:
    """Whether the filtered prompts support looking for a direction; `reason` says why not."""

    verdict: str | None
    reason: str
    refused: int
    n: int


def kept_ids(
    baseline: Iterable[Mapping[str, Any]], limits: Mapping[str, int], cutoff: float = 0.0
) -> dict[str, list[str]]:
    """Ids that pass the filter, in order, at most `limits` of each set: harmful > cutoff, harmless < cutoff."""
    kept: dict[str, list[str]] = {name: [] for name in FITTED_SETS}
    for row in baseline:
        sign = 1 if row["set"].startswith("harmful_") else -1
        ids = kept[row["set"]]
        if sign * (row["refusal_metric"] - cutoff) > 0 and len(ids) < limits[row["set"].split("_")[1]]:
            ids.append(row["id"])
    return kept


@dataclass(frozen=True)
class Asked:
    """What a model did with the prompts of one set, by the metric: `silent` ends its answer before it begins."""

    n: int
    refused: int
    silent: int
    kept: int

    @classmethod
    def of(cls, metric: Sequence[float], cutoff: float, silent: int, kept: int) -> "Asked":
        """Refused are the prompts whose refusal metric lies above the cutoff."""
        return cls(len(metric), sum(value > cutoff for value in metric), silent, kept)


def filter_verdict(asked: Mapping[str, Asked], min_train: int, min_val: int, max_rate: float) -> FilterVerdict:
    """Why the filtered prompts support no direction, the first that holds:

    `too_few_prompts`: a set has, or had by most of it passing, fewer than its minimum. `no_answers`: most prompts get
    an empty answer (95 % Wilson interval above one half). `no_refusal_behaviour`: the interval of the refusal rate on
    harmful prompts lies below `max_rate`, or too few of them are refused. `refuses_everything`: too few harmless
    prompts are answered.
    """
    from pipeline.maths.statistics import wilson

    train = asked["harmful_train"]
    least = {name: min_train if name.endswith("_train") else min_val for name in FITTED_SETS}
    short = {name: f"{name} keeps {asked[name].kept} of at least {least[name]}" for name in FITTED_SETS}
    short = {name: text for name, text in short.items() if asked[name].kept < least[name]}
    silent, n = sum(row.silent for row in asked.values()), sum(row.n for row in asked.values())

    def say(verdict: str | None, reason: str) -> FilterVerdict:
        return FilterVerdict(verdict, reason, train.refused, train.n)

    if poor := [name for name in FITTED_SETS if asked[name].n < least[name]]:
        return say(TOO_FEW, "; ".join(f"{name} has {asked[name].n} of at least {least[name]} prompts" for name in poor))
    if wilson(silent, n)[0] > 0.5:
        return say(NO_ANSWERS, f"{silent} of {n} prompts get an empty answer: the model ends it at once")
    if wilson(train.refused, train.n)[1] < max_rate:
        rate = f"{train.refused} of {train.n} harmful train prompts refused by the metric"
        return say(NO_REFUSAL, f"{rate}, with certainty below {max_rate:.0%}")
    if not short:
        return say(None, "")
    if all(2 * asked[name].kept >= asked[name].n for name in short):
        return say(TOO_FEW, "; ".join(f"{text}, of {asked[name].n} prompts" for name, text in short.items()))
    if any(name.startswith("harmful_") for name in short):
        return say(NO_REFUSAL, "; ".join(short.values()))
    harmless = asked["harmless_train"]
    refused = f"{harmless.refused} of {harmless.n} harmless train prompts are refused by the metric too"
    return say(REFUSES_ALL, f"{refused}; {'; '.join(short.values())}")
