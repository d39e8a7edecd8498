"""estimators: other ways to find a direction, chosen by the same rule from the same prompts."""

from pipeline.artifacts import directions, prompt_scores, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.maths.selection import places_at
from pipeline.names import MEAN_DIFFERENCE
from pipeline.progress import progress
from pipeline.stages.shared.estimating import choice, tested
from pipeline.stages.shared.train import train_rows
from pipeline.stages.shared.validation import ADDED, validation, work


def estimators(config: Config, layout: Layout) -> None:
    """Each estimator's choice among the same places, and what it adds and removes there."""
    pinned = identity(config.model.source)
    if not config.estimators.names or records.read_direction(layout.direction, layout.selection, pinned) is None:
        directions.write_findings(layout.findings, {}, pinned)
        files.write_json(layout.estimators, {})
        return
    from pipeline.maths.equal_terms import Entrant
    from pipeline.maths.estimators import fit
    from pipeline.model.passes import scoring

    model, settings = open_model(config), config.estimators
    counts = len(model.post_instruction), model.n_layers
    places = places_at(settings.positions, settings.layer_step, config.select.layer_share, *counts)
    rows = train_rows(config, layout, model, places)
    with progress("fitting", len(settings.names) * len(places), "place") as bar:
        fitted = {name: fit(name, places, rows["harmful"], rows["harmless"], bar) for name in settings.names}
    record, chosen, tokens = {}, {}, work(layout, model)
    edits = {
        name: {place: finding.interventions(place[1], place[0], ADDED) for place, finding in findings.items()}
        for name, findings in fitted.items()
    }
    each = [both for by_place in edits.values() for both in by_place.values()]
    total = tokens.unchanged + sum(tokens.interventions([one["ablation"]], [one["addition"]]) for one in each)
    with progress("unchanged model", total) as bar:
        prompts, max_tokens = validation(config, layout, model, bar), config.engine.max_batch_tokens
        for name, by_place in edits.items():
            bar.step(f"candidates of {name}")
            scored = {
                place: scoring.score(model, both["ablation"], both["addition"], prompts, max_tokens, bar)
                for place, both in by_place.items()
            }
            record[name] = choice(config, model.n_layers, scored, prompts)
            if place := records.place_of(record[name]["evaluated"]):
                chosen[name] = (place, fitted[name][place])
                record[name]["prompts"] = prompt_scores.require_finite(name, scored[place]).record
    entrants = {
        name: Entrant(place, finding, fitted[MEAN_DIFFERENCE][place].length, rows["harmless"][:, places.index(place)])
        for name, (place, finding) in chosen.items()
    }
    for name, found in tested(config, layout, model, entrants).items():
        record[name]["test"] = found
    directions.write_findings(layout.findings, chosen, pinned)
    files.write_json(layout.estimators, record)
