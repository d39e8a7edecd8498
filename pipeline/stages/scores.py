"""scores: bypass, induce and KL of every candidate direction on the val prompts."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.artifacts import class_means, records, samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.rows import PartialRows
from pipeline.entry.model import open_model
from pipeline.maths.racing import Prompts, Race, in_order, race, shuffled
from pipeline.maths.selection import PromptScores, max_layer_for, thresholds_for
from pipeline.progress import Bar, progress
from pipeline.stages.shared.validation import ADDED, validation, work

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction
    from pipeline.model.loading.loading import ChatModel
    from pipeline.model.passes import scoring
    from pipeline.model.passes.budget import Budget

Scored = Mapping[samples.Place, PromptScores]


def scores(config: Config, layout: Layout) -> None:
    """A row per (position, layer) below the layer bound; none when the filter left too few prompts."""
    if records.read_filter_verdict(layout.filter_summary).verdict:
        records.write_scores(layout.scores, [])
        records.write_baselines(layout.baselines, None, {})
        return
    model = open_model(config)
    prompts, places, found = _sweep(config, layout, model)
    rows = {place: found.scores.get(place) for place in places}
    sweep = samples.Sweep(rows, prompts.harmful_metric.tolist(), prompts.harmless_metric.tolist())
    table = [samples.candidate_scores(place, row, found.stopped.get(place, "")) for place, row in rows.items()]
    records.write_scores(layout.scores, table)
    records.write_baselines(layout.baselines, prompts.baselines, prompts.sizes)
    samples.write_sweep(layout.prompt_scores, sweep, identity(config.model.source))


def _sweep(
    config: Config, layout: Layout, model: "ChatModel"
) -> tuple["scoring.Validation", list[samples.Place], Race]:
    """Val prompts, every place in (position, layer) order, and the scores of those whose direction is not zero."""
    from pipeline.maths.directions import difference_in_means, is_zero
    from pipeline.model.passes import scoring
    from pipeline.model.passes.budget import Budget

    means = class_means.read_means(layout.activations, identity(config.model.source))
    r = difference_in_means(means["harmful_mean"], means["harmless_mean"])
    select = config.select
    every = {(c.position, c.layer): c for c in scoring.candidates(r, max_layer_for(select.layer_share, model.n_layers))}
    todo = {place: c for place, c in every.items() if not is_zero(c.vector, means["harmful_mean"][place])}
    tokens = work(layout, model)
    budget = Budget(tokens, todo, tokens.unchanged)
    partial = PartialRows(layout.partial(_key(config, layout)))
    with progress("unchanged model", budget.total) as bar:
        prompts = validation(config, layout, model, bar)
        bar.step("candidates x prompts")
        order = shuffled(prompts.sizes["harmful"], prompts.sizes["harmless"], config.seed)
        measure = _measured(config, model, prompts, todo, partial, bar, budget)
        if select.race:
            thresholds = thresholds_for(select.rule, model.n_layers, baselines=prompts.baselines, **select.limits())
            found = race(list(todo), order, measure, thresholds, select.race_level, stopping=budget.stop)
        else:
            found = Race({place: in_order(row, order) for place, row in measure(list(todo), order).items()}, {})
        bar.total(budget.spent)
    partial.discard()
    return prompts, list(every), found


def _measured(
    config: Config,
    model: "ChatModel",
    prompts: "scoring.Validation",
    candidates: "Mapping[samples.Place, Direction]",
    partial: PartialRows,
    bar: Bar,
    budget: "Budget",
) -> Callable[[Sequence[samples.Place], Prompts], Scored]:
    """Scores of candidates on some prompts, as many candidates in a batch as it holds tokens.

    Each batch is kept as it comes, and taken from there when a run is resumed.
    """
    from pipeline.model.passes import scoring

    max_tokens = config.engine.max_batch_tokens
    kept = {row["batch"]: row["scores"] for row in partial.rows}

    def measure(places: Sequence[samples.Place], part: Prompts) -> Scored:
        found: dict[samples.Place, PromptScores] = {}
        for batch in scoring.groups(places, prompts, part, max_tokens):
            key = files.content_hash([batch, part.harmful, part.harmless])[:16]
            rows = kept.get(key)
            budget.take(batch, part)
            bar.total(budget.total, done=None if rows is None else budget.spent)
            if rows is None:
                directions = [candidates[place] for place in batch]
                scored = scoring.score_directions(model, directions, prompts, ADDED, max_tokens, part, bar)
                rows = [samples.prompt_scores_record(row) for row in scored]
                partial.append([{"batch": key, "scores": rows}])
            found |= {place: samples.prompt_scores(row) for place, row in zip(batch, rows, strict=True)}
        return found

    return measure


def _key(config: Config, layout: Layout) -> str:
    inputs = [files.file_hash(path) for path in (layout.activations, layout.baseline, layout.refusal_ids)]
    settings = [vars(config.engine), vars(config.select), config.seed]
    return "scores-" + files.content_hash([identity(config.model.source), inputs, settings])
