"""First tokens of a refusal, found from a model's own answers (the paper chose them by hand, appendix B)."""

# pyright: reportUnknownMemberType=false
# Torch's own annotations leave parts open.

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.maths.metrics import refusal_metric
from pipeline.maths.statistics import Estimate, auroc, auroc_difference

LEAST_USES = 2  # a token that begins a single refusal may be chance
LEAST_GAIN = 0.002  # in AUROC; less is not worth another token

FAMILY_CUTOFF = 0.0  # the paper's: more likely refused than not


def frequent_first_tokens(first_tokens: Sequence[int], refused: Sequence[bool]) -> list[int]:
    """Tokens that begin at least LEAST_USES refused answers, the most frequent first."""
    counts = Counter(token for token, is_refusal in zip(first_tokens, refused, strict=True) if is_refusal)
    return [token for token, count in counts.most_common() if count >= LEAST_USES]


def find_refusal_tokens(
    logits: Float[Tensor, "prompt d_vocab"], first_tokens: Sequence[int], refused: Sequence[bool]
) -> list[int]:
    """Tokens whose summed probability tells refused from answered prompts best, by forward selection.

    Candidates begin refused answers; the one that raises the AUROC of the refusal metric most is taken,
    again and again, while it raises it by LEAST_GAIN. Empty when either class is missing or no token
    begins enough refusals.
    """
    if len(set(map(bool, refused))) < 2:
        return []
    candidates, reached = frequent_first_tokens(first_tokens, refused), 0.5
    chosen: list[int] = []
    while candidates:
        gains = {token: _auroc(logits, [*chosen, token], refused) for token in candidates}
        best = max(candidates, key=lambda token: gains[token])
        if gains[best] < reached + LEAST_GAIN:
            break
        chosen.append(best)
        candidates.remove(best)
        reached = gains[best]
    return chosen


def metric_of(logits: Float[Tensor, "prompt d_vocab"], tokens: Sequence[int]) -> list[float]:
    """Refusal metric of each prompt for a list of refusal tokens, nats."""
    return cast(list[float], refusal_metric(logits, torch.tensor(list(tokens))).tolist())


def best_cutoff(metric: Sequence[float], refused: Sequence[bool]) -> float:
    """The cut of the metric with the largest sensitivity + specificity (Youden); of equals, the nearest to 0.

    A model that refuses with "I" in half of its samples has a metric near 0 where its greedy answer refuses.
    """
    values = sorted(set(metric))
    cuts = [(low + high) / 2 for low, high in pairwise(values)] or [0.0]

    def youden(cut: float) -> float:
        counts = caught(metric, refused, cut)
        return counts["refused_above"] / counts["refused"] - counts["answered_above"] / counts["answered"]

    return max(cuts, key=lambda cut: (round(youden(cut), 12), -abs(cut)))


def caught(metric: Sequence[float], refused: Sequence[bool], cutoff: float = 0.0) -> dict[str, int]:
    """How many refused and answered prompts the metric, cut at `cutoff`, calls refused."""
    pairs = [(value > cutoff, bool(is_refusal)) for value, is_refusal in zip(metric, refused, strict=True)]
    return {
        "refused": sum(is_refusal for _, is_refusal in pairs),
        "refused_above": sum(above and is_refusal for above, is_refusal in pairs),
        "answered": sum(not is_refusal for _, is_refusal in pairs),
        "answered_above": sum(above and not is_refusal for above, is_refusal in pairs),
    }


@dataclass(frozen=True, eq=False)
class Asked:
    """Prompts with the first token of each answer, whether it refuses, and the logits after each prompt."""

    first_tokens: Sequence[int]
    refused: Sequence[bool]
    logits: Float[Tensor, "prompt d_vocab"]


@dataclass(frozen=True)
class Told:
    """How well a list of refusal tokens tells refused from answered prompts; `cutoff` in nats."""

    ids: list[int]
    auroc_val: Estimate
    cutoff: float
    caught_train: Mapping[str, int]
    caught_val: Mapping[str, int]


def tell(ids: Sequence[int], cutoff: float, train: Asked, val: Asked, seed: int) -> Told:
    """How well a list tells refused from answered prompts, with a 95 % interval of the AUROC over val prompts."""
    on_val = metric_of(val.logits, ids)
    return Told(
        ids=list(ids),
        auroc_val=auroc(val.refused, on_val, seed),
        cutoff=cutoff,
        caught_train=caught(metric_of(train.logits, ids), train.refused, cutoff),
        caught_val=caught(on_val, val.refused, cutoff),
    )


def difference(val: Asked, family: Sequence[int], auto: Sequence[int], seed: int) -> Estimate:
    """AUROC of the list `auto` minus that of `family`, on val prompts, with a paired 95 % interval."""
    return auroc_difference(val.refused, metric_of(val.logits, family), metric_of(val.logits, auto), seed)


def _auroc(logits: Float[Tensor, "prompt d_vocab"], tokens: Sequence[int], refused: Sequence[bool]) -> float:
    from sklearn.metrics import roc_auc_score  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return float(cast(Any, roc_auc_score(list(refused), metric_of(logits, tokens))))
