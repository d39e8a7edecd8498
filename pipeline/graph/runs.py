"""Which runs there are: those that params.yaml names, and those that dvc.lock has results of."""

from pathlib import Path

from pipeline.config.labels import require_label, require_name
from pipeline.config.params import Run, read_params
from pipeline.errors import UserError, first_line
from pipeline.graph.declared import LOCK, WRONG, Recorded, read_lock

PARAMS = "params.yaml"


def runs_of(label: str | None, root: Path = Path()) -> list[Run]:
    """A run for each model of params.yaml, under its label or the one given."""
    params = read_params(root / PARAMS)
    label = params.label if label in (None, params.profile) else label
    require_label(label)
    return [Run(model, label, tuple(overrides_for(model, label, root))) for model in params.models]


def every_run(root: Path = Path()) -> list[Run]:
    """Every run of dvc.lock and of params.yaml, each once."""
    runs = {(run.model, run.label): run for run in (*recorded_runs(root / LOCK), *runs_of(None, root))}
    return [runs[key] for key in sorted(runs)]


def overrides_for(model: str, label: str, root: Path = Path()) -> list[str]:
    """The overrides of a run: those of params.yaml where it names this run, else those it was last made with.

    Raises UserError where params.yaml has overrides and `label` is the bare profile: they make another run.
    """
    params = read_params(root / PARAMS)
    if label == params.label:
        return params.overrides
    if label == params.profile:
        raise UserError(
            f"params.yaml changes profile '{label}' by overrides, which makes another run: name it "
            f"(profile: {label}-NAME), or use `make repro`, which does"
        )
    recorded = {(run.model, run.label): run for run in recorded_runs(root / LOCK)}
    run = recorded.get((model, label))
    return list(run.overrides) if run else []


def recorded_runs(lock: Path = LOCK) -> list[Run]:
    """Every run that dvc.lock has an entry of, whichever is active. Raises UserError for what is no such file."""
    try:
        runs = [_run(entry) for entry in read_lock(lock).values() if entry.name.startswith("compose@")]
    except WRONG as error:
        raise UserError(f"{lock} is not what DVC writes ({first_line(error)}): check it out again") from None
    return sorted(runs, key=lambda run: (run.model, run.label))


def _run(composed: Recorded) -> Run:
    *_, model, label, _ = Path(next(iter(composed.outs), "")).parts
    overrides = composed.params.get(PARAMS, {}).get("overrides") or []
    if not isinstance(overrides, list) or not all(isinstance(one, str) for one in overrides):
        raise TypeError(f"overrides of {composed.name}")
    return Run(require_name("model", model), require_label(label), tuple(overrides))
