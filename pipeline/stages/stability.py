"""stability: how often each candidate wins, and how many train prompts the direction needs."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import class_means, directions, prompt_scores, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.maths.selection import select, thresholds_for
from pipeline.progress import progress
from pipeline.stages.shared.validation import ADDED, validation, work

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction

READ = ("activations", "data", "engine", "model", "refusal_tokens", "seed", "select", "sizes", "stability")


def stability(config: Config, layout: Layout) -> None:
    """Bootstrap of the selection, margins, split-half cosine and learning curve, in one committed file."""
    selection, pinned = records.read_selection(layout.selection), identity(config.model.source)
    record: dict[str, Any] = {"verdict": selection["verdict"], "reason": selection["reason"]}
    record |= _choice(config, layout, pinned) if "thresholds" in selection else {}
    chosen = records.read_direction(layout.direction, layout.selection, pinned)
    if chosen is not None:
        from pipeline.maths.stability import split_half

        rows, settings = directions.read_rows(layout.rows, pinned, (chosen.position, chosen.layer)), config.stability
        halves = split_half(rows["harmful"], rows["harmless"], settings.n_splits, config.seed)
        record |= {"split_half_cosine": halves, "learning_curve": _learning_curve(config, layout, chosen, rows)}
    files.write_json(layout.stability, {**record, "provenance": provenance(config, layout, pinned, READ)})


def _choice(config: Config, layout: Layout, pinned: str) -> dict[str, Any]:
    """Win frequencies over val prompts, and how far winner and runner-up are from every threshold."""
    from pipeline.maths import stability as maths

    sweep = prompt_scores.read_sweep(layout.prompt_scores, pinned)
    baselines, n_val = records.read_baselines(layout.baselines)
    n_layers = class_means.read_means(layout.activations, pinned)["harmful_mean"].shape[1]
    thresholds = partial(thresholds_for, config.select.rule, n_layers, **config.select.limits())

    def choose(scores: Any, resampled: Any) -> Any:
        return select(scores, thresholds(baselines=resampled), config.select.rule)

    n, metrics = config.stability.n_resamples, (sweep.harmful_metric, sweep.harmless_metric)
    with progress("choices from prompts drawn again", n, unit="draw") as bar:
        wins = maths.win_counts(sweep.candidates, *metrics, choose, n, config.seed, bar)
    table, own = records.read_scores(layout.scores), thresholds(baselines=baselines)
    margins = {}
    for name, row in maths.watched(choose(table, baselines)).items():
        if scores := sweep.candidates[row.position, row.layer]:
            to_each = {key: asdict(value) for key, value in maths.margins(scores, own).items()}
            margins[name] = {"position": row.position, "layer": row.layer, **to_each}
    counts = {"n_val": n_val, "n_resamples": n}
    kept = {"baselines": asdict(baselines), "thresholds": records.finite(vars(own)), "margins": margins}
    return {**counts, **kept, "wins": maths.winners(wins)}


def _learning_curve(config: Config, layout: Layout, chosen: "Direction", rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Cosine with the chosen direction, and effect on val, of directions from fewer train prompts."""
    sizes, n_draws = config.stability.sizes, config.stability.n_draws
    if not sizes:
        return []
    from pipeline.maths.stability import subsets
    from pipeline.model.passes.learning_curve import learning_curve

    parts = subsets(rows["harmful"], rows["harmless"], sizes, n_draws, config.seed)
    model, checked = open_model(config), partial(prompt_scores.require_finite, "the learning curve")
    tokens, most = work(layout, model), config.engine.max_batch_tokens
    with progress("unchanged model", tokens.unchanged + (len(parts) + 1) * tokens.directions([chosen])) as bar:
        prompts = validation(config, layout, model, bar)
        curve = list(learning_curve(model, chosen, parts, prompts, ADDED, most, checked, bar))
    curve[-1] |= {f"n_{kind}": len(rows[kind]) for kind in ("harmful", "harmless")}
    return curve
