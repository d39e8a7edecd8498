"""estimators: other ways to find a direction, chosen by the same rule from the same prompts."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import records, samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.maths.selection import PromptScores, max_layer_for, select, thresholds_for
from pipeline.progress import Bar, progress
from pipeline.stages.shared.validation import ADDED, validation, work

if TYPE_CHECKING:
    from pipeline.maths.estimators import Finding
    from pipeline.maths.interventions import Intervention
    from pipeline.model.loading.loading import ChatModel
    from pipeline.model.passes import scoring, tracing


def estimators(config: Config, layout: Layout) -> None:
    """Each estimator's choice among the same places, and what it adds and removes there."""
    pinned = identity(config.model.source)
    if not config.estimators.names or records.read_direction(layout.direction, layout.selection, pinned) is None:
        samples.write_findings(layout.findings, {}, pinned)
        files.write_json(layout.estimators, {})
        return
    from pipeline.model.passes import scoring
    from pipeline.model.passes.tracing import n_tokens_run

    model, kinds = open_model(config), ("harmful", "harmless")
    places = _places(config, model)
    train = {kind: model.encode(records.kept_instructions(layout, f"{kind}_train")) for kind in kinds}
    n_positions = len(model.post_instruction)
    with progress("resid_pre", sum(n_tokens_run(model, rows, n_positions) for rows in train.values())) as bar:
        rows = {kind: _rows(config, model, kind, train[kind], places, bar) for kind in kinds}
    with progress("fitting", len(config.estimators.names) * len(places), "place") as bar:
        every = {name: _found(name, rows, places, bar) for name in config.estimators.names}
    record, findings, tokens = {}, {}, work(layout, model)
    effects = [_effects(place, finding) for found in every.values() for place, finding in found.items()]
    total = tokens.unchanged + sum(tokens.interventions([each["ablation"]], [each["addition"]]) for each in effects)
    with progress("unchanged model", total) as bar:
        prompts, max_tokens = validation(config, layout, model, bar), config.engine.max_batch_tokens
        for name, found in every.items():
            bar.step(f"candidates of {name}")
            scored = {}
            for place, finding in found.items():
                edits = _effects(place, finding)
                scored[place] = scoring.score(model, edits["ablation"], edits["addition"], prompts, max_tokens, bar)
            record[name] = _selection(config, model, scored, prompts)
            if evaluated := record[name]["evaluated"]:
                place = (evaluated["position"], evaluated["layer"])
                findings[name] = (place, found[place])
                record[name]["prompts"] = samples.prompt_scores_record(samples.require_finite(name, scored[place]))
    samples.write_findings(layout.findings, findings, pinned)
    files.write_json(layout.estimators, record)


def _places(config: Config, model: "ChatModel") -> list[samples.Place]:
    """Every layer_step-th layer down from the last that can be chosen, at each position."""
    last = max_layer_for(config.select.layer_share, model.n_layers) - 1
    layers = range(last, -1, -config.estimators.layer_step)
    known = [position for position in config.estimators.positions if position >= -len(model.post_instruction)]
    return [(position, layer) for position in known for layer in sorted(layers)]


def _rows(
    config: Config, model: "ChatModel", kind: str, tokens: list[list[int]], places: list[samples.Place], bar: Bar
) -> "tracing.PlaceRows":
    from pipeline.model.passes import tracing

    bar.step(f"resid_pre, {kind}")
    return tracing.resid_pre_at(model, tokens, places, config.engine.max_batch_tokens, bar)


def _found(
    name: str, rows: "dict[str, tracing.PlaceRows]", places: list[samples.Place], bar: Bar
) -> "dict[samples.Place, Finding]":
    """A finding at every place where the classes differ at all."""
    from pipeline.maths.directions import is_zero, mean_row
    from pipeline.maths.estimators import ESTIMATORS

    found = {}
    for index, place in enumerate(places):
        harmful, harmless = rows["harmful"][:, index], rows["harmless"][:, index]
        if not is_zero(mean_row(harmful) - mean_row(harmless), mean_row(harmful)):
            found[place] = ESTIMATORS[name](harmful, harmless)
        bar(1)
    return found


def _effects(place: samples.Place, finding: "Finding") -> "dict[str, Intervention]":
    position, layer = place
    return finding.interventions(layer, position, ADDED)


def _selection(
    config: Config, model: "ChatModel", scored: dict[samples.Place, PromptScores], prompts: "scoring.Validation"
) -> dict[str, Any]:
    rule = config.select.rule
    limits = config.select.limits()
    thresholds = thresholds_for(rule, model.n_layers, baselines=prompts.baselines, **limits)
    candidates = [samples.candidate_scores(place, scores) for place, scores in scored.items()]
    selection = select(candidates, thresholds, rule)
    # Where the rule keeps nothing the nearest miss is evaluated, and every table says so.
    evaluated = selection.chosen or next(iter(selection.nearest), None)
    return {
        **records.selection_record(selection),
        "evaluated": asdict(evaluated) if evaluated else None,
        "candidates": [records.finite(asdict(row)) for row in candidates],
    }
