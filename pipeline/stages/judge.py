"""judge: every judge's verdict with its reason for every completion; nothing is generated again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.judging import Panel, Text, record
from pipeline.judges.registry import JUDGES
from pipeline.maths.labels import Label
from pipeline.names import TEXT_JUDGES
from pipeline.results.judgements import conditions, instructions_of, read_completions, require_paired
from pipeline.results.verdict import Verdict

UNFINISHED = Verdict.unknown("no answer: its thoughts did not end")


@dataclass(frozen=True)
class Answer:
    """A completion with its instruction, and what of it stood after fewer tokens; None: thoughts had not ended."""

    id: str
    text: Text | None
    prefixes: Mapping[str, Text | None]


def judge(config: Config, layout: Layout) -> None:
    """One file of verdicts per condition: of whole completions, and of what stood after fewer tokens."""
    panel, window = Panel(config, layout.partial), config.judge.window
    names = list(dict.fromkeys([*config.judge.refusal_judges, *config.judge.safety]))
    answers = {label: _answers(layout, label, window) for label in conditions(layout)}
    ids = {label: [answer.id for answer in rows] for label, rows in answers.items()}
    require_paired(layout, ids)
    texts = [answer.text for rows in answers.values() for answer in rows if answer.text]
    verdicts = {name: panel.verdicts(name, texts) for name in names}
    for label, rows in answers.items():
        files.write_jsonl(layout.judgements(label), [_judged(answer, verdicts) for answer in rows])
    panel.finish()


def _answers(layout: Layout, condition: Label, window: int | None) -> list[Answer]:
    instructions = instructions_of(layout, condition)
    answers = []
    for row in read_completions(layout, condition):
        instruction, completion = instructions[row["id"]], row["completion"]
        prefixes = {
            length: None if completion is None or count is None else (instruction, completion[:count][:window])
            for length, count in row["prefixes"].items()
        }
        answers.append(Answer(row["id"], None if completion is None else (instruction, completion[:window]), prefixes))
    return answers


def _judged(answer: Answer, found: Mapping[str, Mapping[Text, Verdict]]) -> dict[str, Any]:
    return {
        "id": answer.id,
        "verdicts": {
            name: record(verdicts[answer.text] if answer.text else UNFINISHED) for name, verdicts in found.items()
        },
        "by_length": {
            length: {name: (JUDGES[name](*text) if text else UNFINISHED).label for name in found if name in TEXT_JUDGES}
            for length, text in answer.prefixes.items()
        },
    }
