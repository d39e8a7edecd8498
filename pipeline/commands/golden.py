"""golden: the paper's published results computed again; exit status 1 when a number is not the published one.

Reads published_runs.json and published_directions.safetensors from --folder. Recomputes the choice of every
model from its candidates' scores, the direction from the differences in means, refusal and safety scores from
success rates, perplexities from losses. Writes a JSON file, and candidates.csv beside it.
"""

import sys
from pathlib import Path

from pipeline.entry.arguments import Parser
from pipeline.entry.program import guarded
from pipeline.published.golden import DIRECTIONS, OUT, RUNS, golden


def main() -> None:
    """Command line."""
    parser = Parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help=f"folder of {RUNS} and {DIRECTIONS}")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument("--if-there", action="store_true", help="without the folder, write that nothing was replayed")
    arguments = parser.parse_args()
    guarded(lambda: sys.exit(min(golden(arguments.folder, arguments.out, arguments.if_there), 1)))
