"""Files of suffixes: those that the search found, with the model they are for, and plain lists."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.disk import files
from pipeline.errors import UserError


@dataclass(frozen=True)
class Found:
    """A suffix that a search ended with, and all that made it. `loss` in nats, at the start and at the end."""

    suffix: str
    tokens: list[int]
    settings: Mapping[str, Any]
    prompts: list[str]
    steps: int
    loss_before: float
    loss_after: float
    cpu_minutes: float

    @property
    def budget(self) -> dict[str, Any]:
        """What was spent and what it brought, without the suffix."""
        kept = {key: value for key, value in asdict(self).items() if key not in ("suffix", "tokens")}
        return kept | {"prompts": len(self.prompts)}


def spent(budgets: Sequence[Mapping[str, Any]]) -> str:
    """What the searches cost, in words."""
    return "; ".join(
        f"{row['prompts']} prompts, {row['steps']} steps of {row['settings']['candidates']} candidates, "
        f"{row['cpu_minutes']} CPU minutes"
        for row in budgets
    )


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
        return [Found(**row) for row in record["suffixes"]]
    except TypeError:
        raise UserError(f"{path} holds no found suffixes: make it with `python -m pipeline search-suffix`") from None


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
