"""How stable the choice of a direction is: over val prompts, over train prompts, and against the thresholds."""

# pyright: reportUnknownMemberType=false
# Torch's own annotations leave parts open.

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.maths.directions import length, mean_row
from pipeline.maths.selection import Baselines, CandidateScores, Place, PromptScores, Selection, Thresholds
from pipeline.maths.statistics import Estimate, mean

Harmful = Float[Tensor, "harmful d_model"]
Harmless = Float[Tensor, "harmless d_model"]


def win_counts(
    candidates: Mapping[Place, PromptScores | None],
    harmful_metric: Sequence[float],
    harmless_metric: Sequence[float],
    choose: Callable[[Sequence[CandidateScores], Baselines], Selection],
    n_resamples: int,
    seed: int,
    progress: Callable[[float], None] = lambda draws: None,
) -> Counter[Place | None]:
    """How often each (position, layer) is chosen when val prompts of each class are drawn again with replacement.

    None counts the draws in which the rule chooses nothing. A candidate with a score that is not finite never wins.
    Thresholds that depend on the baselines are computed from the same draw.
    """
    generator = np.random.default_rng(seed)
    places = [place for place, scores in candidates.items() if scores is not None and _is_whole(scores)]
    stacked = {
        name: np.array([getattr(candidates[place], name) for place in places]) for name in ("bypass", "induce", "kl")
    }
    harmful, harmless = np.asarray(harmful_metric), np.asarray(harmless_metric)
    wins: Counter[Place | None] = Counter()
    for _ in range(n_resamples):
        first, second = (generator.integers(len(rows), size=len(rows)) for rows in (harmful, harmless))
        means = zip(
            stacked["bypass"][:, first].mean(axis=1),
            stacked["induce"][:, second].mean(axis=1),
            stacked["kl"][:, second].mean(axis=1),
            strict=True,
        )
        scores = [
            CandidateScores(*place, bypass=float(bypass), induce=float(induce), kl=float(kl))
            for place, (bypass, induce, kl) in zip(places, means, strict=True)
        ]
        baselines = Baselines(float(harmful[first].mean()), float(harmless[second].mean()))
        chosen = choose(scores, baselines).chosen
        wins[(chosen.position, chosen.layer) if chosen else None] += 1
        progress(1)
    return wins


def _is_whole(scores: PromptScores) -> bool:
    return bool(np.isfinite([*scores.bypass, *scores.induce, *scores.kl]).all())


def margins(scores: PromptScores, thresholds: Thresholds) -> dict[str, Estimate]:
    """Distance of a candidate to each finite threshold, nats, above 0 inside; 95 % interval over val prompts.

    Thresholds are held fixed; the interval is of the candidate's mean score.
    """
    distances = {
        "kl": [thresholds.kl - value for value in scores.kl],
        "induce": [value - thresholds.induce for value in scores.induce],
        "bypass": [thresholds.bypass - value for value in scores.bypass],
    }
    return {name: mean(rows) for name, rows in distances.items() if np.isfinite(rows).all()}


def winners(wins: Counter[Place | None]) -> list[dict[str, float | int | None]]:
    """Share of the draws that each place won, the largest first; place None: nothing was chosen."""
    n = wins.total()
    ordered = [(place or (None, None), count) for place, count in wins.most_common()]
    return [{"position": position, "layer": layer, "share": count / n} for (position, layer), count in ordered]


def watched(selection: Selection) -> dict[str, CandidateScores]:
    """Whose margins say how close the choice was: winner and runner-up, and the nearest of those removed."""
    ordered = sorted(selection.kept, key=lambda row: row.bypass)
    rows = [
        *zip(("winner", "runner_up"), ordered, strict=False),
        *zip(("nearest_miss",), selection.nearest, strict=False),
    ]
    return dict(rows)


def split_half_cosines(
    harmful: Harmful, harmless: Harmless, n_splits: int, seed: int, shuffled: bool = False
) -> list[float]:
    """Cosines between the differences in means of two disjoint random halves of the train prompts.

    `shuffled`: the control, with the labels shuffled anew before every split.
    """
    generator = torch.Generator().manual_seed(seed)
    cosines: list[float] = []
    for _ in range(n_splits):
        classes: tuple[Tensor, ...] = (harmful, harmless)
        if shuffled:
            rows = torch.cat(classes)
            mixed = rows[torch.randperm(len(rows), generator=generator)]
            classes = mixed[: len(harmful)], mixed[len(harmful) :]
        halves = [_halves(rows, generator) for rows in classes]
        first, second = (mean_row(halves[0][side]) - mean_row(halves[1][side]) for side in (0, 1))
        cosines.append(cosine(first, second))
    return cosines


def split_half(harmful: Harmful, harmless: Harmless, n_splits: int, seed: int) -> dict[str, Any]:
    """Split-half cosines and their control, with summaries; a note instead where a half would be one prompt."""
    sizes = {"harmful": len(harmful) // 2, "harmless": len(harmless) // 2}
    if min(sizes.values()) < 2:
        return {"n_prompts": sizes, "note": "a half needs 2 prompts of each class"}
    draws = split_half_cosines(harmful, harmless, n_splits, seed)
    control = split_half_cosines(harmful, harmless, n_splits, seed, shuffled=True)
    return {
        **summary(draws),
        "n_prompts": sizes,
        "draws": draws,
        "shuffled_labels": {**summary(control), "draws": control},
    }


def _halves(rows: Float[Tensor, "prompt d_model"], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(rows), generator=generator)
    middle = len(rows) // 2
    return rows[order[:middle]], rows[order[middle:]]


@dataclass(frozen=True, eq=False)
class Subset:
    """The difference in means of `n` train prompts of each class, and its cosine with that of all of them."""

    n: int
    r: Float[Tensor, " d_model"]
    cosine: float


def subsets(harmful: Harmful, harmless: Harmless, sizes: Sequence[int], n_draws: int, seed: int) -> list[Subset]:
    """`n_draws` random subsets of each size that leaves prompts out; larger sizes are passed over."""
    generator = torch.Generator().manual_seed(seed)
    whole = mean_row(harmful) - mean_row(harmless)
    parts: list[Subset] = []
    for n in (size for size in sizes if size < min(len(harmful), len(harmless))):
        for _ in range(n_draws):
            first, second = (rows[torch.randperm(len(rows), generator=generator)[:n]] for rows in (harmful, harmless))
            r = mean_row(first) - mean_row(second)
            parts.append(Subset(n, r, cosine(r, whole)))
    return parts


def cosine(a: Float[Tensor, " d_model"], b: Float[Tensor, " d_model"]) -> float:
    """a . b / (|a| |b|); 0 when either is zero."""
    product = float(length(a) * length(b))
    return float(a @ b) / product if product else 0.0


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Mean, and the 2.5 and 97.5 % quantiles of the draws (their spread, not an interval of the mean)."""
    low, high = np.quantile(values, [0.025, 0.975])
    return {"mean": float(np.mean(values)), "q025": float(low), "q975": float(high), "n": len(values)}
