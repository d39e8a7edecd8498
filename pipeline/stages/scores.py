"""scores: bypass, induce and KL of every candidate direction on the val prompts."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.artifacts import files, records, samples, tensors
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.directions import Direction, difference_in_means, is_zero
from pipeline.maths.racing import Prompts, Race, in_order, race, shuffled
from pipeline.maths.selection import PromptScores, max_layer_for, thresholds_for
from pipeline.model import scoring
from pipeline.model.loading import ChatModel
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model
from pipeline.stages.validation import ADDED, validation

Scored = Mapping[samples.Place, PromptScores]


def scores(config: Config, layout: Layout) -> None:
    """A row per (position, layer) below the layer bound; none when the filter left too few prompts."""
    if records.read_filter_verdict(layout.filter_summary).verdict:
        records.write_scores(layout.scores, [])
        records.write_baselines(layout.baselines, None, {})
        return
    model = open_model(config)
    prompts = validation(config, layout, model)
    places, found = _sweep(config, layout, model, prompts)
    rows = {place: found.scores.get(place) for place in places}
    sweep = samples.Sweep(rows, prompts.harmful_metric.tolist(), prompts.harmless_metric.tolist())
    table = [samples.candidate_scores(place, row, found.stopped.get(place, "")) for place, row in rows.items()]
    records.write_scores(layout.scores, table)
    records.write_baselines(layout.baselines, prompts.baselines, prompts.sizes)
    samples.write_sweep(layout.prompt_scores, sweep, identity(config.model.source))


def _sweep(
    config: Config, layout: Layout, model: ChatModel, prompts: scoring.Validation
) -> tuple[list[samples.Place], Race]:
    """Every place in (position, layer) order, and the scores of those whose direction is not zero."""
    means = tensors.read_tensors(layout.activations, model=identity(config.model.source))
    r = difference_in_means(means["harmful_mean"], means["harmless_mean"])
    select = config.select
    every = {(c.position, c.layer): c for c in scoring.candidates(r, max_layer_for(select.layer_share, model.n_layers))}
    todo = {place: c for place, c in every.items() if not is_zero(c.vector, means["harmful_mean"][place])}
    order = shuffled(prompts.sizes["harmful"], prompts.sizes["harmless"], config.seed)
    partial = records.PartialRows(layout.partial(_key(config, layout)))
    total = len(todo) * (len(order.harmful) + len(order.harmless))
    with progress("candidates x prompts", total, unit="prompt") as advance:
        measure = _measured(config, model, prompts, todo, partial, advance)
        if select.race:
            thresholds = thresholds_for(select.rule, model.n_layers, baselines=prompts.baselines, **select.limits())
            found = race(list(todo), order, measure, thresholds, select.race_level)
        else:
            found = Race({place: in_order(row, order) for place, row in measure(list(todo), order).items()}, {})
    partial.discard()
    return list(every), found


def _measured(
    config: Config,
    model: ChatModel,
    prompts: scoring.Validation,
    candidates: Mapping[samples.Place, Direction],
    partial: records.PartialRows,
    advance: Callable[[int], None],
) -> Callable[[Sequence[samples.Place], Prompts], Scored]:
    """Scores of candidates on some prompts, as many candidates in a batch as it holds tokens.

    Each batch is kept as it comes, and taken from there when a run is resumed.
    """
    max_tokens, kept = config.engine.max_batch_tokens, iter(list(partial.rows))

    def measure(places: Sequence[samples.Place], part: Prompts) -> Scored:
        found: dict[samples.Place, PromptScores] = {}
        size = max(1, max_tokens // scoring.n_tokens(prompts, part))
        # By layer: additions of a batch start where the first of its candidates lies.
        ordered = sorted(places, key=lambda place: (place[1], place[0]))
        for batch in (ordered[first : first + size] for first in range(0, len(ordered), size)):
            rows = next(kept, {}).get("scores")
            if rows is None:
                directions = [candidates[place] for place in batch]
                scored = scoring.score_directions(model, directions, prompts, ADDED, max_tokens, part)
                rows = [samples.prompt_scores_record(row) for row in scored]
                partial.append([{"scores": rows}])
            found |= {place: samples.prompt_scores(row) for place, row in zip(batch, rows, strict=True)}
            advance(len(batch) * (len(part.harmful) + len(part.harmless)))
        return found

    return measure


def _key(config: Config, layout: Layout) -> str:
    inputs = [files.file_hash(path) for path in (layout.activations, layout.baseline, layout.refusal_ids)]
    settings = [vars(config.engine), vars(config.select), config.seed]
    return "scores-" + files.content_hash([identity(config.model.source), inputs, settings])


if __name__ == "__main__":
    run_stage(scores)
