"""Judge any file of completions: python -m pipeline judge --judges substring,markers rows.jsonl -o verdicts.jsonl

Each input row is a JSON object with `prompt` and `response`; each output row is the input row plus
`verdicts: {judge: {"label": ..., "reason": ...}}`. A row that cannot be judged is `unknown`, with the reason.
Judges that are models keep what is judged in OUT.partial, so that the same command goes on after an interruption.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.compose import compose
from pipeline.config.probe import read_spec
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.locks import only_writer
from pipeline.entry.arguments import Parser
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.judges.registry import JUDGES
from pipeline.names import JUDGE_NAMES, TEXT_JUDGES
from pipeline.results.verdict import Verdict

COLUMNS = ("prompt", "response")
Text = tuple[str, str]


def judged(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[Text, Verdict]]) -> list[dict[str, Any]]:
    """The rows with every judge's verdict; `found` has a verdict of every judge on every text."""
    return [{**row, "verdicts": {name: _label(row, verdicts) for name, verdicts in found.items()}} for row in rows]


def _label(row: Mapping[str, Any], verdicts: Mapping[Text, Verdict]) -> dict[str, str]:
    missing = next((column for column in COLUMNS if not isinstance(row.get(column), str)), None)
    verdict = Verdict.unknown(f"no text in `{missing}`") if missing else verdicts[row["prompt"], row["response"]]
    return {"label": verdict.label, "reason": verdict.reason}


def texts_of(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Prompt and response of every row that has both."""
    return [(row["prompt"], row["response"]) for row in rows if all(isinstance(row.get(c), str) for c in COLUMNS)]


def verdicts_on(
    texts: Sequence[Text], judges: Sequence[str], overrides: Sequence[str], partial: Path
) -> dict[str, dict[Text, Verdict]]:
    """Verdicts of every judge on every text. Judges that are models keep theirs in `partial` as they come."""
    if all(name in TEXT_JUDGES for name in judges):
        return {name: {text: JUDGES[name](*text) for text in texts} for name in judges}
    from pipeline.entry.judging import Panel  # loads torch: seconds that judges of text need not wait

    panel = Panel(settings(overrides), lambda key: partial / f"{key}.jsonl")
    return {name: panel.verdicts(name, texts) for name in judges}


def settings(overrides: Sequence[str]) -> Config:
    """The settings of conf/ for judging outside a run, with KEY=VALUE changes.

    Raises UserError for one that the schema does not have.
    """
    changed = [text if text.startswith(("+", "~")) else f"++{text}" for text in overrides]
    found = OmegaConf.to_object(compose(read_spec().model, "standard", changed))
    assert isinstance(found, Config)
    return found


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file. Raises UserError for a row that is no object, and where no row has the columns."""
    rows = files.read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{path}: row {number} is not a JSON object with {' and '.join(COLUMNS)}")
    if rows and not any(set(COLUMNS) <= row.keys() for row in rows):
        raise UserError(f"{path}: no row has {' and '.join(COLUMNS)}; the first has {', '.join(rows[0]) or 'nothing'}")
    return rows


def _judges(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in JUDGE_NAMES]
    if unknown or not names:
        raise UserError(f"--judges {text!r}: use one or more of {', '.join(JUDGE_NAMES)}, separated by commas")
    return list(dict.fromkeys(names))


def main() -> None:
    """Read, judge, write, count."""
    parser = Parser(__doc__)
    parser.add_argument("rows", type=Path, help="JSONL file of rows with prompt and response")
    parser.add_argument("--judges", default="substring", help=f"of {', '.join(JUDGE_NAMES)} (default: %(default)s)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSONL file of the same rows with verdicts")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="setting of conf/, such as judge.dtype=float16 or judge.folders.llama_guard_3=FOLDER; may come again",
    )
    arguments = parser.parse_args()

    def run() -> None:
        judges = _judges(arguments.judges)
        rows = read_rows(arguments.rows)
        partial = Path(f"{arguments.out}.partial")
        with only_writer(Path(f"{arguments.out}.lock"), f"writes {arguments.out}"):
            rows = judged(rows, verdicts_on(texts_of(rows), judges, arguments.set, partial))
            files.write_jsonl(arguments.out, rows)
            shutil.rmtree(partial, ignore_errors=True)
        for name in judges:
            counts = Counter(row["verdicts"][name]["label"] for row in rows)
            print(f"{name}: " + ", ".join(f"{label} {count}" for label, count in sorted(counts.items())))

    guarded(run)
