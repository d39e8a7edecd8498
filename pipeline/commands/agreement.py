"""Agreement of judges on the same completions: python -m pipeline agreement verdicts.jsonl [--labels COLUMN]

Reads the output of `python -m pipeline judge`, or the judgements of a condition. Each pair of judges that speak of the
same thing, refusal or safety, has a confusion table, the share of equal verdicts and Cohen's kappa with its interval;
a row that either does not know is left out and counted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline import printed
from pipeline.disk import files
from pipeline.entry.arguments import Parser
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.maths.statistics import kappa, rate
from pipeline.names import REFUSED, UNSAFE

Labels = Sequence[str]


def labels_of(rows: Sequence[Mapping[str, Any]], column: str, path: Path) -> dict[str, list[str]]:
    """Label of every row by judge, and those of a column of labels by its name.

    Raises UserError for rows without verdicts, or of other judges than the first, and for a label that is none.
    """
    judges = list((rows[0].get("verdicts") or {}) if rows else {})
    if not judges:
        raise UserError(f"{path}: no verdicts: make them with `python -m pipeline judge`")
    found: dict[str, list[str]] = {name: [] for name in (*judges, *([column] if column else []))}
    for number, row in enumerate(rows, start=1):
        if list(row.get("verdicts") or {}) != judges:
            raise UserError(f"{path}: row {number} has verdicts of other judges than row 1")
        for name in judges:
            found[name].append(row["verdicts"][name]["label"])
        if column:
            found[column].append(str(row.get(column)))
    known = {*REFUSED, *UNSAFE}
    for name, labels in found.items():
        if bad := [label for label in labels if label not in known]:
            raise UserError(f"{path}: {name} says '{bad[0]}': labels are {', '.join(sorted(known))}")
    return found


def tables(found: Mapping[str, Labels]) -> Iterator[Table]:
    """One table per pair of judges that speak of the same thing."""
    for first, second in combinations(found, 2):
        for meaning in (REFUSED, UNSAFE):
            if _speak(found[first], meaning) and _speak(found[second], meaning):
                yield _pair(first, second, found[first], found[second], meaning)


def _speak(labels: Labels, meaning: Mapping[str, bool | None]) -> bool:
    return any(meaning.get(label) is not None for label in labels)


def _pair(first: str, second: str, a: Labels, b: Labels, meaning: Mapping[str, bool | None]) -> Table:
    counts = Counter(zip(a, b, strict=True))
    known = [
        (meaning[x], meaning[y])
        for x, y in zip(a, b, strict=True)
        if meaning.get(x) is not None and meaning.get(y) is not None
    ]
    table = printed.table(f"{first} (rows) and {second} (columns)", "", *meaning)
    for label in meaning:
        table.add_row(label, *(str(counts[label, other]) for other in meaning))
    if not known:
        table.caption = printed.caption("no row that both judge")
        return table
    equal = rate([x == y for x, y in known])
    agreement = kappa([bool(x) for x, _ in known], [bool(y) for _, y in known])
    value = f"{agreement.value:.2f} " if agreement.value is not None else ""
    table.caption = printed.caption(
        f"n = {len(known)}, unknown to either {len(a) - len(known)}",
        f"equal {equal.value:.1%} [{equal.low:.1%}, {equal.high:.1%}]",
        f"kappa {value}"
        + (f"[{agreement.low:.2f}, {agreement.high:.2f}]" if agreement.low is not None else f"({agreement.note})"),
    )
    return table


def main() -> None:
    """Read, compare, print."""
    parser = Parser(__doc__)
    parser.add_argument("verdicts", type=Path, help="JSONL file of rows with verdicts")
    parser.add_argument("--labels", default="", metavar="COLUMN", help="column of labels to hold the judges against")
    arguments = parser.parse_args()

    def run() -> None:
        rows = files.read_jsonl(arguments.verdicts)
        made = list(tables(labels_of(rows, arguments.labels, arguments.verdicts)))
        if not made:
            raise UserError(f"{arguments.verdicts}: no two judges speak of the same thing: name more with --judges")
        for table in made:
            Console(width=100).print(table)

    guarded(run)
