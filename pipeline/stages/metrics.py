"""metrics: the model's numbers with their intervals, in one small committed file."""

from dataclasses import asdict
from typing import Any

from pipeline.artifacts import files, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.maths.statistics import newcombe_difference
from pipeline.stages.entry import run_stage


def metrics(config: Config, layout: Layout) -> None:
    """Collect refusal scores, paired changes, selection, loss and export agreement."""
    selection = files.read_json(layout.selection)
    outcomes = {name: records.read_outcomes(layout, name) for name in records.condition_names(layout)}
    judged = [name for name, rows in outcomes.items() if _has_verdict(rows)]
    files.write_json(
        layout.metrics,
        {
            "model": config.model.name,
            "title": config.model.title,
            "verdict": selection["verdict"],
            "reason": selection["reason"],
            "judge": config.judge.refusal,
            "reference": config.model.reference,
            "refusal_score": {name: asdict(records.read_rate(layout, name)) for name in judged},
            "unknown": {name: sum(value is None for value in rows.values()) for name, rows in outcomes.items()},
            "change": _changes(outcomes),
            "outcomes": outcomes,
            "selection": selection,
            "loss": files.read_json(layout.loss),
            "export": files.read_json(layout.equivalence),
            "prompts": _prompts(layout),
            "provenance": provenance(config, layout, identity(config.model.source)),
        },
    )


def _changes(outcomes: dict[str, dict[str, bool | None]]) -> dict[str, Any]:
    """Refusal score of each condition minus that of its baseline, on the prompts judged in both."""
    changes = {}
    for name, rows in outcomes.items():
        kind, _, intervention = name.partition("_")
        if intervention == "baseline":
            continue
        baseline = outcomes[f"{kind}_baseline"]
        ids = [key for key, value in rows.items() if value is not None and baseline[key] is not None]
        if not ids:
            continue
        before, after = [bool(baseline[key]) for key in ids], [bool(rows[key]) for key in ids]
        low, high = newcombe_difference(before, after)
        value = (sum(after) - sum(before)) / len(ids)
        changes[name] = {"value": value, "low": low, "high": high, "n": len(ids)}
    return changes


def _has_verdict(rows: dict[str, bool | None]) -> bool:
    """At least one completion has a verdict; a rate of none is no number."""
    return any(value is not None for value in rows.values())


def _prompts(layout: Layout) -> dict[str, Any]:
    audit = files.read_json(layout.audit)
    return {"hashes": audit["hashes"], "surface_auroc": audit["surface_auroc"]}


if __name__ == "__main__":
    run_stage(metrics)
