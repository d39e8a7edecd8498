"""scores: bypass, induce and KL of every candidate direction on the val prompts."""

from typing import TYPE_CHECKING

from pipeline.artifacts import class_means, prompt_scores, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.artifacts.resume import unfinished
from pipeline.config.schema import Config
from pipeline.entry.model import open_model
from pipeline.maths.selection import max_layer_for
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
    prompts, sweep = _sweep(config, layout, model)
    records.write_scores(layout.scores, [prompt_scores.candidate_scores(*row) for row in sweep.candidates.items()])
    records.write_baselines(layout.baselines, prompts.baselines, prompts.sizes)
    prompt_scores.write_sweep(layout.prompt_scores, sweep, identity(config.model.source))


def _sweep(config: Config, layout: Layout, model: "ChatModel") -> "tuple[scoring.Validation, prompt_scores.Sweep]":
    """Val prompts, and the scores of every place in (position, layer) order; none where the direction is zero."""
    from pipeline.maths.directions import difference_in_means, is_zero
    from pipeline.model.passes import scoring
    from pipeline.model.passes.sweep import measured, n_tokens

    pinned, layer_share, most = identity(config.model.source), config.select.layer_share, config.engine.max_batch_tokens
    means = class_means.read_means(layout.activations, pinned)
    r = difference_in_means(means["harmful_mean"], means["harmless_mean"])
    every = {(c.position, c.layer): c for c in scoring.candidates(r, max_layer_for(layer_share, model.n_layers))}
    todo = {place: c for place, c in every.items() if not is_zero(c.vector, means["harmful_mean"][place])}
    inputs = [layout.activations, layout.baseline, layout.refusal_ids]
    kept = unfinished(layout.partial, "scores", pinned, config.engine, layer_share, inputs)
    tokens = work(layout, model)
    with progress("unchanged model", tokens.unchanged + n_tokens(tokens, todo, most)) as bar:
        prompts = validation(config, layout, model, bar)
        bar.step("candidates x prompts")
        scores = measured(model, prompts, todo, ADDED, most, kept, bar)
    kept.discard()
    rows = {place: scores.get(place) for place in every}
    return prompts, prompt_scores.Sweep(rows, prompts.harmful_metric.tolist(), prompts.harmless_metric.tolist())
