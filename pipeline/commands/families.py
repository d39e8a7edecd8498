"""families: every family file on a random tiny model; exit status 1 when one is not as exact as it says.

Activations against Hugging Face's hidden states, export against live ablation, additions as weights
against live ones, the streamed export against the in-memory one, and the writers that were edited.
"""

import sys

from pipeline.entry.arguments import Parser


def main() -> None:
    """Command line: families to check, all by default."""
    parser = Parser(__doc__)
    parser.add_argument("families", nargs="*", help="names of files in conf/family/ (default: all)")
    chosen = parser.parse_args().families
    failed = 0

    from pipeline.entry.program import guarded
    from pipeline.export.families import check, names

    def run() -> None:
        nonlocal failed
        failed = check(chosen or names())

    guarded(run)
    sys.exit(min(failed, 1))
