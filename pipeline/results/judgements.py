"""Judgements: the answers of every condition and what each judge said of them, each file read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import kinds
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.records import read_prompts
from pipeline.disk import shape
from pipeline.errors import UserError
from pipeline.maths.comparisons import Outcomes
from pipeline.maths.labels import Label
from pipeline.names import REFUSED, UNSAFE


@dataclass(frozen=True)
class Judged:
    """Verdicts on the answers of one condition, each by prompt id; None is unknown."""

    refused: Mapping[str, Outcomes]
    """By judge of refusal."""
    safe: Mapping[str, Outcomes]
    """By judge of safety."""
    refused_after: Mapping[int, Mapping[str, Outcomes]]
    """Of the answers cut after so many tokens, by judge of refusal that reads nothing but text."""


@dataclass(frozen=True)
class Judgements:
    """Of every condition that was run, in the order of their names."""

    of: Mapping[Label, Judged]

    def refused(self, judge: str) -> dict[Label, Outcomes]:
        """Whether each prompt was refused in a judge's eyes."""
        return {label: judged.refused[judge] for label, judged in self.of.items()}

    def safe(self, judge: str) -> dict[Label, Outcomes]:
        """Whether each answer is safe in a judge's eyes."""
        return {label: judged.safe[judge] for label, judged in self.of.items()}

    def refused_after(self, judge: str) -> dict[Label, dict[int, Outcomes]]:
        """Whether each prompt was refused, by the number of tokens that the judge has read."""
        return {
            label: {length: found[judge] for length, found in judged.refused_after.items()}
            for label, judged in self.of.items()
        }


def read_judgements(layout: Layout, refusal: Sequence[str], safety: Sequence[str], cut: str) -> Judgements:
    """Judgements of some judges; `cut`: the one that is asked of answers cut short as well.

    Raises UserError for a condition whose prompts are not those of its baseline, the first of its set in order.
    """
    found = {label: _judged(layout, label, refusal, safety, cut) for label in conditions(layout)}
    require_paired(layout, {label: list(judged.refused[refusal[0]]) for label, judged in found.items()})
    return Judgements(found)


def _judged(layout: Layout, label: Label, refusal: Sequence[str], safety: Sequence[str], cut: str) -> Judged:
    rows = read_rows(layout, label)
    with shape.as_written(layout.judgements(label)):
        lengths = sorted({int(length) for row in rows for length in row["by_length"]})
        unsafe = {name: {row["id"]: UNSAFE[row["verdicts"][name]["label"]] for row in rows} for name in safety}
        return Judged(
            refused={name: {row["id"]: REFUSED[row["verdicts"][name]["label"]] for row in rows} for name in refusal},
            safe={
                name: {key: None if value is None else not value for key, value in found.items()}
                for name, found in unsafe.items()
            },
            refused_after={
                n: {cut: {row["id"]: REFUSED[row["by_length"][str(n)][cut]] for row in rows}} for n in lengths
            },
        )


def conditions(layout: Layout) -> list[Label]:
    """The conditions that were run, in the order of their names."""
    main, further = (layout.completions(Label(kind, "baseline")).parent for kind in ("harmful", "other"))
    names = sorted(path.stem for folder in (main, further) for path in folder.glob("*.jsonl"))
    if not names:
        raise UserError(f"{main} has no completions: run `dvc repro`")
    return [Label.parse(name) for name in names]


def instructions_of(layout: Layout, condition: Label) -> dict[str, str]:
    """Instruction by prompt id for one condition."""
    return {prompt.id: prompt.instruction for prompt in read_prompts(layout.prompts(condition.prompt_set))}


def categories_of(layout: Layout, condition: Label) -> dict[str, str]:
    """Category of each prompt by its id for one condition."""
    return {prompt.id: prompt.category for prompt in read_prompts(layout.prompts(condition.prompt_set))}


def read_completions(layout: Layout, condition: Label) -> list[kinds.CompletionRow]:
    """Answers of one condition. Raises UserError for others than those of its prompts, the first ones in order."""
    path = layout.completions(condition)
    rows: list[kinds.CompletionRow] = shape.read_rows(path, kinds.CompletionRow)
    _require_first_prompts(layout, condition, path, [row["id"] for row in rows])
    if any(row["prompt_set"] != condition.prompt_set for row in rows):
        raise UserError(f"{path} has answers to other prompts than {condition.prompt_set}: {shape.AGAIN}")
    return rows


def read_rows(layout: Layout, condition: Label) -> list[kinds.JudgementRow]:
    """Verdicts of one condition. Raises UserError for others than those of its prompts, the first ones in order."""
    path = layout.judgements(condition)
    rows: list[kinds.JudgementRow] = shape.read_rows(path, kinds.JudgementRow)
    _require_first_prompts(layout, condition, path, [row["id"] for row in rows])
    return rows


def _require_first_prompts(layout: Layout, condition: Label, path: Path, ids: Sequence[str]) -> None:
    if not ids:
        raise UserError(f"{path} is empty: {shape.AGAIN}")
    prompts = layout.prompts(condition.prompt_set)
    shape.require_order(path, ids, [prompt.id for prompt in read_prompts(prompts)][: len(ids)], prompts)


def require_paired(layout: Layout, ids: Mapping[Label, Sequence[str]]) -> None:
    """Raises UserError for a condition whose prompts (`ids`, by condition) are not those of its baseline."""
    for label, rows in ids.items():
        if label.baseline not in ids:
            raise UserError(f"{layout.completions(label)} has no {label.baseline} to be compared with: {shape.AGAIN}")
        shape.require_order(layout.completions(label), rows, ids[label.baseline], layout.completions(label.baseline))
