"""stability: how often each candidate wins, and how many train prompts the direction needs."""

from dataclasses import asdict
from typing import Any

from pipeline.artifacts import files, records, samples, tensors
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.maths import stability as maths
from pipeline.maths.directions import Direction
from pipeline.maths.selection import select, thresholds_for
from pipeline.maths.statistics import Estimate
from pipeline.model import scoring
from pipeline.model.loading import ChatModel
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model
from pipeline.stages.validation import ADDED, validation

READ = ("activations", "data", "engine", "model", "refusal_tokens", "seed", "select", "sizes", "stability")


def stability(config: Config, layout: Layout) -> None:
    """Bootstrap of the selection, margins, split-half cosine and learning curve, in one committed file."""
    selection = files.read_json(layout.selection)
    pinned = identity(config.model.source)
    record: dict[str, Any] = {"verdict": selection["verdict"], "reason": selection["reason"]}
    if "thresholds" in selection:
        record |= _choice(config, layout, pinned)
    chosen = records.read_direction(layout.direction, layout.selection, pinned)
    if chosen is not None:
        rows = samples.read_rows(layout.rows, pinned, (chosen.position, chosen.layer))
        record["split_half_cosine"] = maths.split_half(
            rows["harmful"], rows["harmless"], config.stability.n_splits, config.seed
        )
        record["learning_curve"] = _learning_curve(config, layout, chosen, rows)
    record["provenance"] = provenance(config, layout, pinned, READ)
    files.write_json(layout.stability, record)


def _choice(config: Config, layout: Layout, pinned: str) -> dict[str, Any]:
    """Win frequencies over val prompts, and how far winner and runner-up are from every threshold."""
    sweep = samples.read_sweep(layout.prompt_scores, pinned)
    baselines, n_val = records.read_baselines(layout.baselines)
    rule, n_layers, limits = config.select.rule, _n_layers(layout, pinned), config.select.limits()

    def choose(scores: Any, resampled: Any) -> Any:
        return select(scores, thresholds_for(rule, n_layers, baselines=resampled, **limits), rule)

    n = config.stability.n_resamples
    wins = maths.win_counts(sweep.candidates, sweep.harmful_metric, sweep.harmless_metric, choose, n, config.seed)
    thresholds = thresholds_for(rule, n_layers, baselines=baselines, **limits)
    table = records.read_scores(layout.scores)
    selection = choose(table, baselines)
    ordered = dict(zip(("winner", "runner_up"), sorted(selection.kept, key=lambda row: row.bypass), strict=False))
    ordered |= dict(zip(("nearest_miss",), selection.nearest, strict=False))
    return {
        "n_val": n_val,
        "baselines": asdict(baselines),
        "n_resamples": n,
        # Measured on some prompts only: they never win, so shares are of the others.
        "n_stopped": sum(bool(row.stopped) for row in table),
        "wins": [
            {"position": place[0] if place else None, "layer": place[1] if place else None, "share": count / n}
            for place, count in wins.most_common()
        ],
        "thresholds": records.finite(vars(thresholds)),
        "margins": {
            name: {
                "position": row.position,
                "layer": row.layer,
                **_estimates(maths.margins(scores, thresholds, config.seed)),
            }
            for name, row in ordered.items()
            if (scores := sweep.candidates[row.position, row.layer])
        },
    }


def _estimates(values: dict[str, Estimate]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in values.items()}


def _n_layers(layout: Layout, pinned: str) -> int:
    return tensors.read_tensors(layout.activations, model=pinned)["harmful_mean"].shape[1]


def _learning_curve(config: Config, layout: Layout, chosen: Direction, rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Cosine with the chosen direction, and effect on val, of directions from fewer train prompts."""
    settings = config.stability
    found = maths.subsets(rows["harmful"], rows["harmless"], settings.sizes, settings.n_draws, config.seed)
    model = open_model(config)
    prompts = validation(config, layout, model)
    curve = []
    with progress("learning curve", len(found) + 1, unit="direction") as advance:
        for subset in found:
            direction = Direction(subset.r, chosen.layer, chosen.position)
            curve.append({"n": subset.n, "cosine": subset.cosine, **_effect(config, model, direction, prompts)})
            advance(1)
        n_all = {"n": None, "n_harmful": len(rows["harmful"]), "n_harmless": len(rows["harmless"])}
        curve.append({**n_all, "cosine": 1.0, **_effect(config, model, chosen, prompts)})
        advance(1)
    return curve


def _effect(config: Config, model: ChatModel, direction: Direction, prompts: scoring.Validation) -> dict[str, float]:
    scores = scoring.score_direction(model, direction, prompts, ADDED, config.engine.max_batch_tokens)
    row = samples.require_finite("the learning curve", scores).candidate(direction.position, direction.layer)
    return {"bypass": row.bypass, "induce": row.induce, "kl": row.kl}


if __name__ == "__main__":
    run_stage(stability)
