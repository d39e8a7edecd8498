"""Answers and verdicts by condition: which there are, and what each judge said of every prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.artifacts import kinds
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.records import read_prompts
from pipeline.disk import shape
from pipeline.errors import UserError
from pipeline.maths.labels import Label
from pipeline.names import REFUSED, UNSAFE


def condition_names(layout: Layout) -> list[str]:
    """Names of the conditions that were run, sorted."""
    main, further = (layout.completions(name).parent for name in ("harmful_baseline", "other_baseline"))
    names = sorted(path.stem for folder in (main, further) for path in folder.glob("*.jsonl"))
    if not names:
        raise UserError(f"{main} has no completions: run `dvc repro`")
    return names


def instructions_of(layout: Layout, condition: str) -> dict[str, str]:
    """Instruction by prompt id for one condition."""
    prompts = read_prompts(layout.prompts(Label.parse(condition).prompt_set))
    return {prompt.id: prompt.instruction for prompt in prompts}


def read_completions(layout: Layout, condition: str) -> list[kinds.CompletionRow]:
    """Answers of one condition. Raises UserError for others than those of its prompts, the first ones in order."""
    path, prompt_set = layout.completions(condition), Label.parse(condition).prompt_set
    rows: list[kinds.CompletionRow] = shape.read_rows(path, kinds.CompletionRow)
    _require_first_prompts(layout, prompt_set, path, [row["id"] for row in rows])
    if any(row["prompt_set"] != prompt_set for row in rows):
        raise UserError(f"{path} has answers to other prompts than {prompt_set}: {shape.AGAIN}")
    return rows


def read_judgements(layout: Layout, condition: str) -> list[kinds.JudgementRow]:
    """Verdicts of one condition. Raises UserError for others than those of its prompts, the first ones in order."""
    path, prompt_set = layout.judgements(condition), Label.parse(condition).prompt_set
    rows: list[kinds.JudgementRow] = shape.read_rows(path, kinds.JudgementRow)
    _require_first_prompts(layout, prompt_set, path, [row["id"] for row in rows])
    return rows


def _require_first_prompts(layout: Layout, prompt_set: str, path: Path, ids: Sequence[str]) -> None:
    if not ids:
        raise UserError(f"{path} is empty: {shape.AGAIN}")
    prompts = layout.prompts(prompt_set)
    shape.require_order(path, ids, [prompt.id for prompt in read_prompts(prompts)][: len(ids)], prompts)


def require_paired(layout: Layout, ids: Mapping[str, Sequence[str]]) -> None:
    """Raises UserError for a condition whose prompts (`ids`, by condition) are not those of its baseline."""
    for name, rows in ids.items():
        baseline = Label.parse(name).baseline
        if baseline not in ids:
            raise UserError(f"{layout.completions(name)} has no {baseline} to be compared with: {shape.AGAIN}")
        shape.require_order(layout.completions(name), rows, ids[baseline], layout.completions(baseline))


def read_outcomes(layout: Layout, condition: str, judge: str) -> dict[str, bool | None]:
    """Whether each prompt of a condition was refused in a judge's eyes, by prompt id; None is unknown."""
    with shape.as_written(layout.judgements(condition)):
        rows = read_judgements(layout, condition)
        return {row["id"]: REFUSED[row["verdicts"][judge]["label"]] for row in rows}


def read_safety(layout: Layout, condition: str, judge: str) -> dict[str, bool | None]:
    """Whether each completion of a condition is safe in a judge's eyes, by prompt id; None is unknown."""
    with shape.as_written(layout.judgements(condition)):
        rows = read_judgements(layout, condition)
        unsafe = {row["id"]: UNSAFE[row["verdicts"][judge]["label"]] for row in rows}
    return {key: None if value is None else not value for key, value in unsafe.items()}


def read_categories(layout: Layout, prompt_set: str) -> dict[str, str]:
    """Category of each prompt of a set, by prompt id."""
    return {prompt.id: prompt.category for prompt in read_prompts(layout.prompts(prompt_set))}


def read_outcomes_by_length(layout: Layout, condition: str, judge: str) -> dict[int, dict[str, bool | None]]:
    """The same of each completion cut after a number of tokens, by that number."""
    with shape.as_written(layout.judgements(condition)):
        rows = read_judgements(layout, condition)
        lengths = sorted({int(length) for row in rows for length in row["by_length"]})
        return {n: {row["id"]: REFUSED[row["by_length"][str(n)][judge]] for row in rows} for n in lengths}
