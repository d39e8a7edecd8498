"""Files of suffixes: those that the search found, with the model they are for, and plain lists."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.disk import files
from pipeline.disk.shape import held
from pipeline.errors import UserError
from pipeline.results.suffix import Objective, Searched
from pipeline.suffix.group import Group


@dataclass(frozen=True)
class Settings:
    """What makes a search: the same settings give the same search, step by step."""

    seed: int
    prompts: int
    suffix_tokens: int
    starts: int
    candidates: int
    top_k: int
    objective: Objective
    target: str
    dtype: str


@dataclass(frozen=True)
class Found:
    """A suffix that a search ended with, and all that made it. `loss` in nats, at the start and at the end."""

    suffix: str
    tokens: list[int]
    settings: Settings
    prompts: list[str]
    steps: int
    loss_before: float
    loss_after: float
    cpu_minutes: float

    @property
    def searched(self) -> Searched:
        """What was spent and what it brought, without the suffix."""
        named = {name: value for name, value in asdict(self.settings).items() if name != "prompts"}
        brought = {name: getattr(self, name) for name in ("steps", "loss_before", "loss_after", "cpu_minutes")}
        return Searched(**named, n_prompts=len(self.prompts), **brought)


def grouped(found: Sequence[Found]) -> list[Group]:
    """Found suffixes by objective, in the order in which they were found."""
    groups: dict[Objective, list[Found]] = {}
    for one in found:
        groups.setdefault(one.settings.objective, []).append(one)
    return [
        Group(objective, tuple(one.suffix for one in rows), tuple(one.searched for one in rows))
        for objective, rows in groups.items()
    ]


def write_found(path: Path, facts: Mapping[str, str], found: Sequence[Found]) -> None:
    """Found suffixes; `facts` pin model, tokenizer and chat template, without which they mean nothing."""
    files.write_json(path, {**facts, "suffixes": [asdict(one) for one in found]})


def read_found(path: Path, facts: Mapping[str, str]) -> list[Found]:
    """The suffixes of a file that `write_found` wrote. Raises UserError when they were made for something else."""
    record = files.read_json(path)
    if not isinstance(record, Mapping) or not isinstance(record.get("suffixes"), list):
        raise UserError(f"{path} holds no found suffixes: make it with `python -m pipeline search-suffix`")
    for key, value in facts.items():
        if record.get(key) != value:
            raise UserError(
                f"{path} was made for {key} '{record.get(key)}', not '{value}': a suffix is used only on the model "
                "that it was found for; run `python -m pipeline search-suffix` for this one"
            )
    try:
        rows = held(list[Found], record["suffixes"], str(path))
    except UserError:
        raise UserError(f"{path} holds no found suffixes: make it with `python -m pipeline search-suffix`") from None
    return [Found(**{**row, "settings": Settings(**row["settings"])}) for row in rows]


def read_list(path: Path) -> list[str]:
    """A suffix a line, without the blanks around it. Raises UserError for an empty file, and for empty lines."""
    try:
        lines = [line.strip() for line in files.read_text(path, missing="is missing").splitlines()]
    except UserError as error:
        raise UserError(f"{path} cannot be read as a list of suffixes ({error}): set suffix.file to one") from None
    empty = [number for number, line in enumerate(lines, start=1) if not line]
    if empty or not lines:
        raise UserError(f"{path}:{(empty or [1])[0]} is empty: an empty suffix is none; give one on each line")
    return list(dict.fromkeys(lines))
