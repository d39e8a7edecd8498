"""scores: bypass, induce and KL of every candidate direction on the val prompts."""

from typing import TYPE_CHECKING

from pipeline.artifacts import class_means, prompt_scores, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.artifacts.resume import unfinished
from pipeline.config.schema import Config
from pipeline.entry.model import open_model
from pipeline.maths.racing import Race, in_order, race, shuffled
from pipeline.maths.selection import Place, max_layer_for, thresholds_for
from pipeline.progress import progress
from pipeline.stages.shared.validation import ADDED, validation, work

if TYPE_CHECKING:
    from pipeline.model.loading.loading import ChatModel
    from pipeline.model.passes import scoring


def scores(config: Config, layout: Layout) -> None:
    """A row per (position, layer) below the layer bound; none when the filter left too few prompts."""
    if records.read_filter_verdict(layout.filter_summary).verdict:
        records.write_scores(layout.scores, [])
        records.write_baselines(layout.baselines, None, {})
        return
    model = open_model(config)
    prompts, places, raced = _sweep(config, layout, model)
    rows = {place: raced.scores.get(place) for place in places}
    sweep = prompt_scores.Sweep(rows, prompts.harmful_metric.tolist(), prompts.harmless_metric.tolist())
    table = [prompt_scores.candidate_scores(place, row, raced.stopped.get(place, "")) for place, row in rows.items()]
    records.write_scores(layout.scores, table)
    records.write_baselines(layout.baselines, prompts.baselines, prompts.sizes)
    prompt_scores.write_sweep(layout.prompt_scores, sweep, identity(config.model.source))


def _sweep(config: Config, layout: Layout, model: "ChatModel") -> "tuple[scoring.Validation, list[Place], Race]":
    """Val prompts, every place in (position, layer) order, and the scores of those whose direction is not zero."""
    from pipeline.maths.directions import difference_in_means, is_zero
    from pipeline.model.passes import scoring
    from pipeline.model.passes.budget import Budget
    from pipeline.model.passes.sweep import measured

    pinned, select, tokens = identity(config.model.source), config.select, work(layout, model)
    means = class_means.read_means(layout.activations, pinned)
    r = difference_in_means(means["harmful_mean"], means["harmless_mean"])
    every = {(c.position, c.layer): c for c in scoring.candidates(r, max_layer_for(select.layer_share, model.n_layers))}
    todo = {place: c for place, c in every.items() if not is_zero(c.vector, means["harmful_mean"][place])}
    budget = Budget(tokens, todo, tokens.unchanged)
    inputs = [layout.activations, layout.baseline, layout.refusal_ids]
    kept = unfinished(layout.partial, "scores", pinned, config.engine, select, config.seed, inputs)
    with progress("unchanged model", budget.total) as bar:
        prompts = validation(config, layout, model, bar)
        bar.step("candidates x prompts")
        order = shuffled(prompts.sizes["harmful"], prompts.sizes["harmless"], config.seed)
        measure = measured(model, prompts, todo, ADDED, config.engine.max_batch_tokens, kept, bar, budget)
        if select.race:
            thresholds = thresholds_for(select.rule, model.n_layers, baselines=prompts.baselines, **select.limits())
            raced = race(list(todo), order, measure, thresholds, select.race_level, stopping=budget.stop)
        else:
            raced = Race({place: in_order(row, order) for place, row in measure(list(todo), order).items()}, {})
        bar.total(budget.spent)
    kept.discard()
    return prompts, list(every), raced
