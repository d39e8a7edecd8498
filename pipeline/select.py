"""Choose a direction from candidate scores in a file, without a model and outside DVC.

Rows have position, layer, bypass, induce and kl; the paper's published names refusal_score,
steering_score and kl_div_score are accepted. Prints one JSON line.
"""

import argparse
import json
import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from pipeline.artifacts.records import selection_record
from pipeline.config.schema import RULES
from pipeline.errors import UserError
from pipeline.maths.selection import FILTERS, Baselines, CandidateScores, select, thresholds_for
from pipeline.stages.entry import guarded

PUBLISHED_NAMES = {"refusal_score": "bypass", "steering_score": "induce", "kl_div_score": "kl"}
COLUMNS = ["position", "layer", "bypass", "induce", "kl"]


def read_candidates(path: Path) -> list[CandidateScores]:
    """Scores from a CSV file or a JSON list of rows. Raises UserError naming what is wrong and where."""
    import pandas as pd

    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.DataFrame(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a table of rows in CSV or JSON: {str(error).splitlines()[0]}") from None
    table = pd.DataFrame(table.rename(columns=PUBLISHED_NAMES))
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    try:
        return [_candidate(row) for row in table.to_dict("records")]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} holds a value that is not a number: {str(error).splitlines()[0]}") from None


def _candidate(row: dict[Hashable, Any]) -> CandidateScores:
    scores = {name: float(row[name]) for name in COLUMNS[2:]}
    zero_norm = str(row.get("zero_norm", False)).lower() == "true"
    stopped = str(row["stopped"]) if row.get("stopped") in FILTERS else ""
    n = {name: int(row[name]) for name in ("n_harmful", "n_harmless") if row.get(name, math.nan) == row.get(name)}
    return CandidateScores(int(row["position"]), int(row["layer"]), **scores, zero_norm=zero_norm, stopped=stopped, **n)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        candidates = read_candidates(arguments.scores)
        if arguments.layers < 1 or any(row.layer >= arguments.layers for row in candidates):
            raise UserError(f"{arguments.scores} has a layer outside --layers {arguments.layers}")
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


if __name__ == "__main__":
    main()
