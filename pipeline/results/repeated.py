"""Results of the same model under several seeds, and under several draws of sampled answers, typed and in one file."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.disk import files
from pipeline.errors import UserError
from pipeline.maths.repeated import Between, Spread
from pipeline.maths.statistics import Estimate
from pipeline.results.metrics_file import as_record
from pipeline.results.origins import Answers
from pipeline.results.values import Condition

VERSION = 1
FOLDER = Path("outputs/seeds")  # a folder for each model


@dataclass(frozen=True)
class Repeat:
    """One of the runs."""

    overrides: list[str]
    seed: int
    answers: Answers
    verdict: str
    position: int | None
    """Of the chosen direction; None where there is none."""
    layer: int | None
    refusal_score: dict[Condition, Estimate]
    """Share of its answers that are refusals; the interval is over its own prompts."""
    config: str
    """Hash of the configuration that its numbers depend on."""


@dataclass(frozen=True)
class Together:
    """One number over several runs."""

    value: Estimate
    """Mean over all answers; the interval is over prompts, each once however many runs have it, and n is of prompts."""
    n_answers: int
    spread: Spread
    """Of the runs' own means."""
    between: Between | None
    """What the runs differ by beyond the prompts that each had; None for draws, which have the same prompts."""


@dataclass(frozen=True)
class Over:
    """The main conditions, over those of the runs that have them."""

    refusal_score: dict[Condition, Together]
    """Share of answers that are refusals."""
    change: dict[Condition, Together]
    """Of that share from the baseline of the same run, on the same prompts."""


@dataclass(frozen=True)
class Cosine:
    """Between the directions of two seeds."""

    seeds: list[int]
    chosen: float
    """Of the two chosen directions, wherever each was found."""
    at_first: float
    """Of the two seeds' directions at the place that the first seed chose."""
    at_second: float
    """The same at the place that the second seed chose."""


@dataclass(frozen=True)
class Origin:
    """What the numbers were made from."""

    model: str
    code: dict[str, str]
    """Hash of the code by stage, of those that the numbers depend on."""
    config: str
    """Hash of the first run's whole configuration."""
    packages: dict[str, str]


@dataclass(frozen=True)
class Repeated:
    """One model under several seeds, and one of them under several draws."""

    model: str
    title: str
    profile: str
    judge: str
    max_new_tokens: int
    runs: list[Repeat]
    """The seeds first, with greedy answers; then the draws of the first seed."""
    seeds: Over
    cosines: list[Cosine]
    """Of each two seeds that have a direction."""
    chance_cosine: float | None
    """What 95 of 100 pairs of isotropic random directions have at most, as |cosine|; None without two directions."""
    draws: Over
    """Of sampled answers; empty without draws."""
    against_greedy: dict[Condition, Estimate]
    """Sampled minus greedy, of the share of refusals: each prompt's mean over draws against its one greedy answer."""
    refused_draws: dict[Condition, dict[str, float]]
    """Share of the draws in which each prompt is refused, by its id."""
    origin: Origin
    version: int = VERSION


def place(model: str, root: Path = Path()) -> Path:
    """Where the results of a model are; seeds.csv and seal.json are beside it."""
    return root / FOLDER / model / "seeds.json"


def write_repeated(path: Path, repeated: Repeated) -> None:
    """As JSON, sorted by key."""
    files.write_json(path, as_record(repeated))


def read_repeated(path: Path) -> Repeated:
    """What `write_repeated` wrote. Raises UserError for anything else."""
    record = files.read_object(path)
    try:
        repeated = _adapter().validate_python(record)
        if as_record(repeated) == record and repeated.version == VERSION:
            return repeated
        reason = "other keys, or another version"
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    raise UserError(
        f"{path} is not what this version of the project writes ({reason}): run `python -m pipeline seeds` again"
    )


@cache
def _adapter() -> TypeAdapter[Repeated]:
    return TypeAdapter(Repeated)
