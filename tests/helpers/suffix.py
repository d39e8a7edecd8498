"""A suffix analysis of planted numbers, without a model: what each suffix does is known."""

from functools import cache

import numpy as np
import torch

from pipeline.results.origins import Provenance
from pipeline.results.suffix import (
    Analysis,
    Counts,
    Decomposition,
    Draw,
    Effect,
    Measured,
    Objective,
    Searched,
    Suffix,
    Tokens,
)
from pipeline.suffix import record
from pipeline.suffix.maths.changes import difference_of_means

N, N_HARMLESS, LAYERS, HEADS = 16, 15, 4, 3
TOP = [(2, 1), (0, 0)]
LAYER = 2
# By objective: the fall of the refusal metric in nats, and the share of it that the component returns.
PLANTED: dict[Objective, tuple[float, float]] = {"refusal": (16.0, 0.45), "affirmative": (4.0, 1.0)}


@cache
def planted() -> Suffix:
    """Harmful prompts at about 1 nat, harmless ones at -3; random suffixes do next to nothing."""
    provenance = Provenance(
        "sha256:1", "t", "c", "k", "toy", "d", "float32", "cpu", "", 0, {"torch": "1", "transformers": "1"}
    )
    analyses: dict[Objective, Analysis] = {name: _analysis(name, *row) for name, row in PLANTED.items()}
    measured = Measured("found", "this model", LAYER, "substring", Counts(16, N, N_HARMLESS), analyses, provenance)
    return Suffix("measured", "", measured)


def _analysis(objective: Objective, fall: float, share: float) -> Analysis:
    drawn = np.random.default_rng(0)
    none = 1 + 0.1 * drawn.normal(size=N)
    suffixed = none - fall + 0.1 * drawn.normal(size=N)
    metrics = {
        "harmful": none.tolist(),
        "adversarial": suffixed.tolist(),
        "random": (none + 0.01 * drawn.normal(size=N)).tolist(),
        "harmless": (-3 + 0.1 * drawn.normal(size=N_HARMLESS)).tolist(),
    }
    [metric] = record.measures([metrics])
    verdict, reason = record.verdict(metric, "the suffix")
    restored = _restored(none, suffixed, share, drawn)
    restoration = record.restoration(metrics["harmful"], metrics["adversarial"], restored)
    heads, cosines, masses = (_kinds(drawn, *axes) for axes in ((LAYERS, HEADS), (LAYERS,), (LAYERS, HEADS, 4)))
    curve, outside = record.cosines(cosines)
    answers = {kind: {str(i): kind != "adversarial" for i in range(N)} for kind in record.HARMFUL}
    target = "Sure" if objective == "affirmative" else ""
    rows = [{"sha256": "ab" * 32, "tokens": _tokens(), "choosing": suffixed.tolist(), "harmful": suffixed.tolist()}] * 2
    return Analysis(
        effect=Effect(
            verdict=verdict,
            reason=reason,
            objective=objective,
            target=target,
            n_suffixes=2,
            metric=metric,
            below_harmless=difference_of_means(metrics["harmless"], metrics["adversarial"]),
            refusal_score=record.scores(answers),
            cosine=curve[LAYER],
            heads_sum=record.heads_sum(heads, TOP),
            attention=record.attention(masses, TOP),
            **record.returned(restoration, restored),
        ),
        searches=[Searched(objective, target, 4, 16, 16, 40, 64, 0, "float32", 104, 3.0, -1.5, 12.4)] * 2,
        tried=record.tried(metrics["harmful"], rows),
        chosen=1,
        random_draws=[Draw("b c", Tokens(**_tokens()), metric.random)],
        cosine=curve,
        random_outside=outside,
        heads=record.heads(heads, TOP),
        decomposition=Decomposition(1e-6, 1e-6, 1e-3, True, 0.0, {"harmful": {"heads": 1.0}}),
        restoration=restoration,
        prompts={kind: {str(i): row for i, row in enumerate(values)} for kind, values in metrics.items()},
    )


def _restored(
    none: np.ndarray, suffixed: np.ndarray, share: float, drawn: np.random.Generator
) -> dict[str, list[float]]:
    shares = {"nothing": 0.0, "all_heads": 1.0, "top_heads": 0.2, "top_heads/last_token": 0.2}
    shares |= {"component": share, "component/last_token": share}
    shares |= {f"component_at/{layer}": share * layer / LAYERS for layer in range(LAYERS)}
    shares |= {f"{name}/{draw}": 0.01 for name in ("random_heads", "random_direction") for draw in range(3)}
    noise = 0.01 * drawn.normal(size=len(none))
    return {name: (suffixed + part * (none - suffixed) + noise).tolist() for name, part in shares.items()}


def _kinds(drawn: np.random.Generator, *axes: int) -> dict[str, torch.Tensor]:
    sizes = {"harmful": N, "adversarial": N, "random": N, "harmless": N_HARMLESS}
    return {kind: torch.from_numpy(drawn.uniform(0, 0.25, size=(n, *axes))) for kind, n in sizes.items()}


def _tokens() -> dict[str, int]:
    return {"fewest": 16, "most": 16, "straddling": 0, "retokenised": 0}
