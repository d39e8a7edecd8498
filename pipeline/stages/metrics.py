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
from pipeline.disk import files, shape
from pipeline.maths import evaluation
from pipeline.maths.comparisons import Outcomes
from pipeline.names import MEAN_DIFFERENCE
from pipeline.results import judgements as by_condition
from pipeline.stages.shared import safety

READ = tuple(field.name for field in fields(Config) if field.name not in ("fetch", "memory", "suffix"))


def metrics(config: Config, layout: Layout) -> None:
    """Collect refusal scores, paired comparisons, agreement, selection, loss and export."""
    pinned = identity(config.model.source)
    selection = records.read_selection(layout.selection)
    names = by_condition.condition_names(layout)
    judges = config.judge.refusal_judges
    kinds = {name: spec.kind for name, spec in config.data.sets.items()}
    verdicts = {judge: {name: by_condition.read_outcomes(layout, name, judge) for name in names} for judge in judges}
    outcomes = verdicts[config.judge.refusal]
    by_condition.require_paired(layout, {name: list(rows) for name, rows in outcomes.items()})
    scores = evaluation.refusal_scores(outcomes)
    by_length = {name: by_condition.read_outcomes_by_length(layout, name, config.judge.refusal) for name in names}
    files.write_json(
        layout.metrics,
        {
            "model": config.model.name,
            "title": config.model.title,
            "verdict": selection["verdict"],
            "reason": selection["reason"],
            "judge": config.judge.refusal,
            "max_new_tokens": config.generate.max_new_tokens,
            "reference": config.model.reference,
            "refusal_score": scores,
            "unknown": {name: sum(value is None for value in rows.values()) for name, rows in outcomes.items()},
            "comparisons": {name: asdict(row) for name, row in evaluation.comparisons(outcomes).items()},
            "moved_controls": evaluation.moved_controls(scores),
            "other_judges": {
                judge: evaluation.refusal_scores(rows) for judge, rows in verdicts.items() if judge != judges[0]
            },
            "agreement": evaluation.agreement(verdicts),
            "safety": safety.scores(layout, names, config.judge.safety),
            "attacks": safety.attacks(layout, names, config.judge.safety, kinds),
            "systems": {
                "prompts": dict(config.evaluate.systems),
                "not_measured": shape.read_record(layout.systems, dict[str, str]),
            },
            "by_length": evaluation.rates_by_length(by_length),
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
        },
    )


def _val_scores(config: Config, layout: Layout, selection: dict[str, Any], pinned: str) -> dict[str, Any]:
    chosen = selection["chosen"]
    if chosen is None:
        return {}
    sweep = samples.read_sweep(layout.prompt_scores, pinned)
    scores = sweep.candidates[chosen["position"], chosen["layer"]]
    assert scores is not None, "a candidate without direction is never chosen"
    controls = samples.read_control_scores(layout.control_scores)
    return evaluation.val_scores(scores, controls, sweep.harmful_metric, sweep.harmless_metric, config.seed)


def _estimators(layout: Layout, selection: dict[str, Any], outcomes: Mapping[str, Outcomes]) -> dict[str, Any]:
    """Each estimator's choice, and how its effects differ from those of the difference in means."""
    found = shape.read_record(layout.estimators, dict[str, EstimatorChoice])
    places = {name: _place(record["evaluated"]) for name, record in found.items()}
    same = places.get(MEAN_DIFFERENCE) is not None and places[MEAN_DIFFERENCE] == _place(selection["chosen"])
    evaluated = {name: place is not None for name, place in places.items()}
    differences = evaluation.estimator_comparisons(outcomes, evaluated, same)
    return {
        name: {
            **{key: value for key, value in record.items() if key not in ("prompts", "candidates")},
            "conditions_of": "" if same and name == MEAN_DIFFERENCE else name,
            "against_mean_difference": {effect: asdict(row) for effect, row in differences.get(name, {}).items()},
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
