"""stability: how often each candidate wins, and how many train prompts the direction needs."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import class_means, records, samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.maths.selection import select, thresholds_for
from pipeline.progress import Bar, progress
from pipeline.stages.shared.validation import ADDED, validation, work

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction
    from pipeline.model.loading.loading import ChatModel
    from pipeline.model.passes import scoring

READ = ("activations", "data", "engine", "model", "refusal_tokens", "seed", "select", "sizes", "stability")


def stability(config: Config, layout: Layout) -> None:
    """Bootstrap of the selection, margins, split-half cosine and learning curve, in one committed file."""
    selection = records.read_selection(layout.selection)
    pinned = identity(config.model.source)
    record: dict[str, Any] = {"verdict": selection["verdict"], "reason": selection["reason"]}
    if "thresholds" in selection:
        record |= _choice(config, layout, pinned)
    chosen = records.read_direction(layout.direction, layout.selection, pinned)
    if chosen is not None:
        from pipeline.maths import stability as maths

        rows = samples.read_rows(layout.rows, pinned, (chosen.position, chosen.layer))
        record["split_half_cosine"] = maths.split_half(
            rows["harmful"], rows["harmless"], config.stability.n_splits, config.seed
        )
        record["learning_curve"] = _learning_curve(config, layout, chosen, rows)
    record["provenance"] = provenance(config, layout, pinned, READ)
    files.write_json(layout.stability, record)


def _choice(config: Config, layout: Layout, pinned: str) -> dict[str, Any]:
    """Win frequencies over val prompts, and how far winner and runner-up are from every threshold."""
    from pipeline.maths import stability as maths

    sweep = samples.read_sweep(layout.prompt_scores, pinned)
    baselines, n_val = records.read_baselines(layout.baselines)
    rule, n_layers, limits = config.select.rule, _n_layers(layout, pinned), config.select.limits()

    def choose(scores: Any, resampled: Any) -> Any:
        return select(scores, thresholds_for(rule, n_layers, baselines=resampled, **limits), rule)

    n = config.stability.n_resamples
    metrics = (sweep.harmful_metric, sweep.harmless_metric)
    with progress("choices from prompts drawn again", n, unit="draw") as bar:
        wins = maths.win_counts(sweep.candidates, *metrics, choose, n, config.seed, bar)
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
                **{key: asdict(value) for key, value in maths.margins(scores, thresholds, config.seed).items()},
            }
            for name, row in ordered.items()
            if (scores := sweep.candidates[row.position, row.layer])
        },
    }


def _n_layers(layout: Layout, pinned: str) -> int:
    return class_means.read_means(layout.activations, pinned)["harmful_mean"].shape[1]


def _learning_curve(config: Config, layout: Layout, chosen: "Direction", rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Cosine with the chosen direction, and effect on val, of directions from fewer train prompts."""
    settings = config.stability
    if not settings.sizes:
        return []
    from pipeline.maths import stability as maths
    from pipeline.maths.directions import Direction

    found = maths.subsets(rows["harmful"], rows["harmless"], settings.sizes, settings.n_draws, config.seed)
    model = open_model(config)
    curve, tokens = [], work(layout, model)
    with progress("unchanged model", tokens.unchanged + (len(found) + 1) * tokens.directions([chosen])) as bar:
        prompts = validation(config, layout, model, bar)
        bar.step("learning curve")
        for subset in found:
            direction = Direction(subset.r, chosen.layer, chosen.position)
            curve.append({"n": subset.n, "cosine": subset.cosine, **_effect(config, model, direction, prompts, bar)})
        n_all = {"n": None, "n_harmful": len(rows["harmful"]), "n_harmless": len(rows["harmless"])}
        curve.append({**n_all, "cosine": 1.0, **_effect(config, model, chosen, prompts, bar)})
    return curve


def _effect(
    config: Config, model: "ChatModel", direction: "Direction", prompts: "scoring.Validation", bar: Bar
) -> dict[str, float]:
    from pipeline.model.passes import scoring

    scores = scoring.score_direction(model, direction, prompts, ADDED, config.engine.max_batch_tokens, bar)
    row = samples.require_finite("the learning curve", scores).candidate(direction.position, direction.layer)
    return {"bypass": row.bypass, "induce": row.induce, "kl": row.kl}
