"""metrics: the model's numbers with intervals, ranks and tests, in one committed file."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from pipeline.artifacts import records, samples
from pipeline.artifacts.kinds import EstimatorChoice
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.artifacts.result_kinds import Audit, Capability, Exported, LossRow, NotExported, SetsAudit, TokenLists
from pipeline.config.schema import Config
from pipeline.disk import files, shape, tables
from pipeline.maths import evaluation
from pipeline.maths.comparisons import Comparison, Outcomes
from pipeline.maths.labels import Label
from pipeline.names import MEAN_DIFFERENCE
from pipeline.results import metrics as results
from pipeline.results import overview
from pipeline.results.judgements import read_judgements
from pipeline.results.rates import rates
from pipeline.stages.shared import safety

READ = tuple(field.name for field in fields(Config) if field.name not in ("fetch", "memory", "suffix"))


def metrics(config: Config, layout: Layout) -> None:
    """Collect refusal scores, paired comparisons, agreement, selection, loss and export."""
    pinned = identity(config.model.source)
    selection = records.read_selection(layout.selection)
    judge, judges = config.judge.refusal, config.judge.refusal_judges
    judgements = read_judgements(layout, judges, config.judge.safety, judge)
    verdicts = {name: judgements.refused(name) for name in judges}
    outcomes = verdicts[judge]
    scores = rates(outcomes)
    safe = {name: judgements.safe(name) for name in config.judge.safety}
    kinds = {name: spec.kind for name, spec in config.data.sets.items()}
    record = {
        "model": config.model.name,
        "title": config.model.title,
        "verdict": selection["verdict"],
        "reason": selection["reason"],
        "judge": judge,
        "max_new_tokens": config.generate.max_new_tokens,
        "reference": config.model.reference,
        "refusal_score": scores,
        "unknown": evaluation.unknown(outcomes),
        "comparisons": evaluation.comparisons(outcomes),
        "moved_controls": evaluation.moved_controls(scores),
        "other_judges": {name: rates(rows) for name, rows in verdicts.items() if name != judges[0]},
        "agreement": evaluation.agreement(verdicts),
        "safety": {name: safety.scores(judgements, name) for name in config.judge.safety},
        "attacks": safety.attacks(layout, safe, kinds),
        "systems": {
            "prompts": dict(config.evaluate.systems),
            "not_measured": shape.read_record(layout.systems, dict[str, str]),
        },
        "by_length": evaluation.rates_by_length(judgements.refused_after(judge)),
        "val_scores": _val_scores(config, layout, selection, pinned),
        "estimators": _estimators(layout, selection, outcomes),
        "refusal_tokens": shape.read_record(layout.refusal_tokens, TokenLists),
        "outcomes": outcomes,
        "selection": selection,
        "loss": shape.read_record(layout.loss, dict[str, LossRow]),
        "capability": shape.read_record(layout.capability, Capability),
        "export": shape.read_record(layout.equivalence, Exported | NotExported),
        "prompts": _prompts(layout),
        "provenance": provenance(config, layout, pinned, READ),
        "version": results.VERSION,
    }
    found = results.of_record(results.as_record(record))
    results.write_metrics(layout.metrics, found)
    tables.write_csv(layout.rates, overview.rates_table(found))
    files.write_json(layout.headline, overview.headline(found))


def _val_scores(config: Config, layout: Layout, selection: dict[str, Any], pinned: str) -> Mapping[str, Any]:
    chosen = selection["chosen"]
    if chosen is None:
        return {}
    sweep = samples.read_sweep(layout.prompt_scores, pinned)
    scores = sweep.candidates[chosen["position"], chosen["layer"]]
    assert scores is not None, "a candidate without direction is never chosen"
    controls = samples.read_control_scores(layout.control_scores)
    found = evaluation.val_scores(scores, controls, sweep.harmful_metric, sweep.harmless_metric, config.seed)
    return {name: _scored(row) for name, row in found.items()}


def _scored(row: evaluation.Scored) -> results.MetricScore | results.KlScore:
    controls = dict(row.controls)
    if row.baseline is None or row.change is None:
        return results.KlScore(row.direction, controls, row.rank)
    change = results.Change(**asdict(row.change), detectable=row.detectable)
    return results.MetricScore(row.baseline, row.direction, change, controls, row.rank)


def _estimators(layout: Layout, selection: dict[str, Any], outcomes: Mapping[Label, Outcomes]) -> dict[str, Any]:
    """Each estimator's choice, and how its effects differ from those of the difference in means."""
    found = shape.read_record(layout.estimators, dict[str, EstimatorChoice])
    places = {name: _place(record["evaluated"]) for name, record in found.items()}
    same = places.get(MEAN_DIFFERENCE) is not None and places[MEAN_DIFFERENCE] == _place(selection["chosen"])
    evaluated = {name: place is not None for name, place in places.items()}
    differences: dict[str, dict[str, Comparison]] = evaluation.estimator_comparisons(outcomes, evaluated, same)
    return {
        name: {
            **{key: value for key, value in record.items() if key not in ("prompts", "candidates")},
            "conditions_of": "" if same and name == MEAN_DIFFERENCE else name,
            "against_mean_difference": differences.get(name, {}),
        }
        for name, record in found.items()
    }


def _place(chosen: dict[str, Any] | None) -> tuple[int, int] | None:
    return (chosen["position"], chosen["layer"]) if chosen else None


def _prompts(layout: Layout) -> dict[str, Any]:
    audit = shape.read_record(layout.audit, Audit)
    further = shape.read_record(layout.sets_audit, SetsAudit)
    return {
        "hashes": audit["hashes"] | further["hashes"],
        "surface_auroc": audit["surface_auroc"],
        "shared_with_fitted": further["overlaps"],
    }
