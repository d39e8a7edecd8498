"""Choose a direction from candidate scores in a file, without a model and outside DVC.

Rows have position, layer, bypass, induce and kl; the paper's published names refusal_score,
steering_score and kl_div_score are accepted. Prints one JSON line.
"""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.records import selection_record
from pipeline.config.checks import LARGEST_SIZE
from pipeline.config.labels import shown
from pipeline.entry.arguments import Parser
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.maths.selection import Baselines, CandidateScores, select, thresholds_for
from pipeline.names import RULES
from pipeline.prompts.load import read_rows
from pipeline.published.files import PUBLISHED_NAMES

COLUMNS = ["position", "layer", "bypass", "induce", "kl"]
COUNTS = ("n_harmful", "n_harmless")
NOTHING = ("", "nan", "na", "n/a", "null", "none")  # how tables write that there is no value


def read_candidates(path: Path, layers: int = LARGEST_SIZE) -> list[CandidateScores]:
    """Scores from a file of rows, each candidate once. Raises UserError naming what is wrong and where.

    `layers`: blocks of the model, which no row's layer is outside of.
    """
    found: dict[tuple[int, int], CandidateScores] = {}
    for line, row in read_rows(path, str(path)):
        candidate = _candidate(f"{path}:{line}", row)
        if not 0 <= candidate.layer < layers:
            raise UserError(f"{path}:{line} has layer {candidate.layer}, outside --layers {layers}: mend one of them")
        first = found.setdefault((candidate.position, candidate.layer), candidate)
        if repr(first) != repr(candidate):  # as text, in which NaN equals NaN
            raise UserError(
                f"{path}:{line} gives position {candidate.position}, layer {candidate.layer} other scores than a row "
                "before it: keep the row that is meant"
            )
    if not found:
        raise UserError(f"{path} holds no candidate: give it a row for each, with {', '.join(COLUMNS)}")
    return list(found.values())


def _candidate(where: str, row: Any) -> CandidateScores:
    if not isinstance(row, Mapping):
        raise UserError(f"{where} is no row with columns {', '.join(COLUMNS)}")
    named = {PUBLISHED_NAMES.get(key, key): value for key, value in row.items()}
    missing = [name for name in COLUMNS if name not in named]
    if missing:
        raise UserError(
            f"{where} has no column {', '.join(missing)}; it has {shown(', '.join(map(str, row)))}, "
            "and columns of CSV are separated by commas"
        )
    if len(named) < len(row):
        raise UserError(f"{where} has a score under our name and under the published one: keep one")
    scores = {name: _number(where, name, named[name]) for name in COLUMNS[2:]}
    position, layer = (_whole(where, name, named[name]) for name in COLUMNS[:2])
    zero_norm = str(named.get("zero_norm", False)).lower() == "true"
    if str(named.get("stopped", "")).lower() not in NOTHING:
        raise UserError(
            f"{where} has scores of some val prompts alone (column stopped): measure it on all, or leave the row out"
        )
    n = {name: _whole(where, name, named[name]) for name in COUNTS if str(named.get(name, "")).lower() not in NOTHING}
    return CandidateScores(position, layer, **scores, zero_norm=zero_norm, **n)


def _number(where: str, name: str, value: Any) -> float:
    """The value as a number, NaN where there is none. Raises UserError for anything else."""
    if str(value).lower() in NOTHING:
        return math.nan
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise UserError(f"{where} holds a value that is not a number: {name} is {shown(str(value))}")


def _whole(where: str, name: str, value: Any) -> int:
    number = _number(where, name, value)
    if not number.is_integer() or abs(number) > LARGEST_SIZE:
        raise UserError(f"{where}: {name} is {shown(str(value))}: use a whole number, at most {LARGEST_SIZE}")
    return int(number)


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--scores", type=Path, required=True, help="JSON or CSV file of candidate scores")
    parser.add_argument("--layers", type=int, required=True, help="number of blocks L of the model")
    parser.add_argument("--rule", choices=RULES, default="paper", help="default: %(default)s")
    parser.add_argument("--kl", type=float, default=0.1, help="largest KL, nats (default: %(default)s)")
    parser.add_argument("--induce", type=float, default=0.0, help="rule paper: smallest induce (default: %(default)s)")
    parser.add_argument(
        "--layer-share", type=float, default=0.8, help="layers below int(share * L) (default: %(default)s)"
    )
    parser.add_argument("--gap-share", type=float, default=0.5, help="rule calibrated: share of the gap to close")
    parser.add_argument("--baseline-harmful", type=float, help="rule calibrated: mean refusal metric, harmful")
    parser.add_argument("--baseline-harmless", type=float, help="rule calibrated: mean refusal metric, harmless")
    return parser.parse_args()


def main() -> None:
    """Read, select, print."""
    arguments = _arguments()

    def run() -> None:
        if arguments.layers < 1:
            raise UserError(f"--layers is {arguments.layers}: use at least 1")
        candidates = read_candidates(arguments.scores, arguments.layers)
        for name in ("kl", "induce", "layer_share", "gap_share"):
            if not math.isfinite(getattr(arguments, name)):
                raise UserError(f"--{name.replace('_', '-')} is no finite number: give one")
        pair = (arguments.baseline_harmful, arguments.baseline_harmless)
        if arguments.rule == "calibrated" and None in pair:
            raise UserError("rule calibrated needs --baseline-harmful and --baseline-harmless")
        thresholds = thresholds_for(
            arguments.rule,
            arguments.layers,
            kl=arguments.kl,
            induce=arguments.induce,
            layer_share=arguments.layer_share,
            gap_share=arguments.gap_share,
            baselines=None if None in pair else Baselines(*pair),
        )
        record = selection_record(select(candidates, thresholds, arguments.rule))
        chosen = record["chosen"] or {"position": None, "layer": None}
        print(json.dumps({"position": chosen["position"], "layer": chosen["layer"], **record}))

    guarded(run)
