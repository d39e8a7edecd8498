"""The paper's published results as files: candidate scores, choices, losses, success rates, directions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.disk import files
from pipeline.disk.tensors import read_tensors
from pipeline.errors import UserError, first_line
from pipeline.maths.selection import CandidateScores

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.maths.selection import Place

RUNS = "published_runs.json"
DIRECTIONS = "published_directions.safetensors"
# What is published as, and our name of it.
PUBLISHED_NAMES = {"refusal_score": "bypass", "steering_score": "induce", "kl_div_score": "kl"}
# 1 minus the published rate is the score of that judge.
SCORES = {
    "substring_matching_success_rate": "refusal_score [substring]",
    "llamaguard2_success_rate": "safety_score [llamaguard2]",
}


@dataclass(frozen=True)
class Published:
    """What is published of one model: scores of every candidate, the choice, losses, success rates."""

    name: str
    n_layers: int
    scores: tuple[CandidateScores, ...]
    chosen: "Place"
    losses: Mapping[str, Mapping[str, Mapping[str, float]]]
    rates: Mapping[str, float]

    @property
    def n_positions(self) -> int:
        """Post-instruction positions with a candidate."""
        return -min(candidate.position for candidate in self.scores)


def input_file(folder: Path, name: str) -> Path:
    """A file of the folder. Raises UserError when it is missing or cannot be read."""
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path} is missing: --folder must hold {RUNS} and {DIRECTIONS}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from None
    return path


def read_runs(path: Path) -> list[Published]:
    """Published runs by model. Raises UserError naming the model and what is wrong with it."""
    runs = files.read_json(path)
    if not isinstance(runs, dict) or not runs:
        raise UserError(f"{path} is not a table of published runs by model")
    return [_published(path, name, run) for name, run in runs.items()]


def _published(path: Path, name: str, run: Any) -> Published:
    try:
        published = _parsed(name, _is(dict, run))
        places = [(candidate.position, candidate.layer) for candidate in published.scores]
        whole = len(set(places)) == len(places) == published.n_positions * published.n_layers
        if not whole or not all(c.position < 0 <= c.layer < published.n_layers for c in published.scores):
            raise ValueError("its candidates are not one for every position and layer")
    except KeyError as error:
        raise UserError(f"{path}: model '{name}' has no {error}") from None
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: model '{name}': {first_line(error)}") from None
    return published


def _parsed(name: str, run: dict[str, Any]) -> Published:
    chosen = _is(dict, run["selected"])
    return Published(
        name=name,
        n_layers=_is(int, run["n_layer"]),
        scores=tuple(_candidate(_is(dict, row)) for row in _is(list, run["candidates"])),
        chosen=(_is(int, chosen["pos"]), _is(int, chosen["layer"])),
        losses={
            intervention: {text: _loss(_is(dict, row)) for text, row in _is(dict, texts).items()}
            for intervention, texts in _is(dict, run["loss"]).items()
        },
        rates={
            f"{_score(judge)}, {condition}": float(_is(float, rate))
            for condition, rates in _is(dict, run["attack_success"]).items()
            for judge, rate in _is(dict, rates).items()
        },
    )


def _score(judge: str) -> str:
    if judge not in SCORES:
        raise ValueError(f"{repr(judge)[:40]} is no known rate: {', '.join(SCORES)}")
    return SCORES[judge]


def _candidate(row: dict[str, Any]) -> CandidateScores:
    scores = {ours: float(_is(float, row[theirs])) for theirs, ours in PUBLISHED_NAMES.items()}
    place = _is(int, row["position"]), _is(int, row["layer"])
    return CandidateScores(*place, bypass=scores["bypass"], induce=scores["induce"], kl=scores["kl"])


def _loss(row: dict[str, Any]) -> dict[str, float]:
    return {key: float(_is(float, row[key])) for key in ("ce_loss", "perplexity", "n_tokens")}


def _is(kind: type, value: Any) -> Any:
    """The value, when it is of that kind of JSON. Raises ValueError; a whole number is a number, true is not."""
    names = {dict: "a table of names and values", list: "a list", int: "a whole number", float: "a number"}
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
        raise ValueError(f"{repr(value)[:40]} is not {names[kind]}")
    if kind in (dict, list) and not value:
        raise ValueError(f"{names[kind]} is empty")
    return value


def read_directions(path: Path, runs: list[Published]) -> "dict[str, tuple[Tensor, Tensor]]":
    """(mean_diffs, direction) by model. Raises UserError for tensors that do not go with the runs."""
    try:
        tensors = read_tensors(path)
    except UserError:
        raise UserError(f"{path} is not a whole safetensors file") from None
    known = {run.name: run for run in runs}
    models = sorted({key.rpartition("/")[0] for key in tensors})
    if not models or set(tensors) != {f"{model}/{name}" for model in models for name in ("mean_diffs", "direction")}:
        raise UserError(f"{path} does not hold MODEL/mean_diffs and MODEL/direction of every model in it")
    if unknown := [model for model in models if model not in known]:
        raise UserError(f"{path} holds '{unknown[0]}', which has no published run")
    pairs = {model: (tensors[f"{model}/mean_diffs"], tensors[f"{model}/direction"]) for model in models}
    for model, (mean_diffs, direction) in pairs.items():
        expected = (known[model].n_positions, known[model].n_layers, *direction.shape)
        if tuple(mean_diffs.shape) != expected or direction.ndim != 1:
            found = f"{tuple(mean_diffs.shape)} with a direction of shape {tuple(direction.shape)}"
            raise UserError(
                f"{path}: mean_diffs of '{model}' are {found}; its candidates need {expected[:2]} x d_model"
            )
    return pairs
