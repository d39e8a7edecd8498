"""estimators: other ways to find a direction, chosen by the same rule from the same prompts."""

from dataclasses import asdict
from typing import Any

from pipeline.artifacts import files, records, samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.directions import is_zero, mean_row
from pipeline.maths.estimators import ESTIMATORS, Finding
from pipeline.maths.selection import PromptScores, max_layer_for, select, thresholds_for
from pipeline.model import scoring, tracing
from pipeline.model.loading import ChatModel
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model
from pipeline.stages.validation import ADDED, validation

Rows = dict[str, tracing.PlaceRows]


def estimators(config: Config, layout: Layout) -> None:
    """Each estimator's choice among the same places, and what it adds and removes there."""
    pinned = identity(config.model.source)
    chosen = records.read_direction(layout.direction, layout.selection, pinned)
    if chosen is None or not config.estimators.names:
        samples.write_findings(layout.findings, {}, pinned)
        files.write_json(layout.estimators, {})
        return
    model = open_model(config)
    places = _places(config, model)
    rows: Rows = {kind: _rows(config, layout, model, kind, places) for kind in ("harmful", "harmless")}
    prompts = validation(config, layout, model)
    record, findings = {}, {}
    with progress("estimators", len(config.estimators.names) * len(places), unit="candidate") as advance:
        for name in config.estimators.names:
            found = _found(name, rows, places)
            scored = {}
            for place, finding in found.items():
                scored[place] = _score(model, place, finding, prompts, config.engine.max_batch_tokens)
                advance(1)
            record[name] = _selection(config, model, scored, prompts)
            if evaluated := record[name]["evaluated"]:
                place = (evaluated["position"], evaluated["layer"])
                findings[name] = (place, found[place])
                record[name]["prompts"] = samples.prompt_scores_record(samples.require_finite(name, scored[place]))
    samples.write_findings(layout.findings, findings, pinned)
    files.write_json(layout.estimators, record)


def _places(config: Config, model: ChatModel) -> list[samples.Place]:
    """Every layer_step-th layer down from the last that can be chosen, at each position."""
    last = max_layer_for(config.select.layer_share, model.n_layers) - 1
    layers = range(last, -1, -config.estimators.layer_step)
    known = [position for position in config.estimators.positions if position >= -len(model.post_instruction)]
    return [(position, layer) for position in known for layer in sorted(layers)]


def _rows(
    config: Config, layout: Layout, model: ChatModel, kind: str, places: list[samples.Place]
) -> tracing.PlaceRows:
    tokens = model.encode(records.kept_instructions(layout, f"{kind}_train"))
    with progress(f"resid_pre, {kind}", len(tokens)) as advance:
        return tracing.resid_pre_at(model, tokens, places, config.engine.max_batch_tokens, advance)


def _found(name: str, rows: Rows, places: list[samples.Place]) -> dict[samples.Place, Finding]:
    """A finding at every place where the classes differ at all."""
    found = {}
    for index, place in enumerate(places):
        harmful, harmless = rows["harmful"][:, index], rows["harmless"][:, index]
        if not is_zero(mean_row(harmful) - mean_row(harmless), mean_row(harmful)):
            found[place] = ESTIMATORS[name](harmful, harmless)
    return found


def _score(
    model: ChatModel, place: samples.Place, finding: Finding, prompts: scoring.Validation, max_tokens: int
) -> PromptScores:
    position, layer = place
    effects = finding.interventions(layer, position, ADDED)
    return scoring.score(model, effects["ablation"], effects["addition"], prompts, max_tokens)


def _selection(
    config: Config, model: ChatModel, scored: dict[samples.Place, PromptScores], prompts: scoring.Validation
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


if __name__ == "__main__":
    run_stage(estimators)
