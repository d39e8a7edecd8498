"""bench: what the pipeline costs beside plain ways of doing the same, in one process, in turn, as ratios.

Prints a table and writes outputs/bench/<model>-<dtype>-<device>.json; with --keep also the ratios alone, beside the
machine's processor, to outputs/speed/, which the pages show. Times are of this machine as it is
now; ratios are what to compare. Exit status 1 when a ratio is more than twice past its bound.
"""

import argparse
import sys
from pathlib import Path

from pipeline.config.checks import DTYPES
from pipeline.entry.arguments import Parser

ON_MODEL = ("selection", "caching", "generation")
SECTIONS = (*ON_MODEL, "stages", "scaling", "help")


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--model", help="name of a file in conf/model/ (default: the first of params.yaml)")
    parser.add_argument("--random", type=_size, metavar="WIDTHxLAYERS", help="random weights of a size in its place")
    parser.add_argument("--keep", action="store_true", help="write the ratios to outputs/speed/ too, to be committed")
    parser.add_argument("--dtype", choices=DTYPES, help="default: engine.dtype")
    parser.add_argument("--candidates", type=int, default=4, help="sampled for the comparison (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds behind each median (default: %(default)s)")
    parser.add_argument("--sample", action="store_true", help="neither a whole sweep nor peak memory: shorter")
    arguments = parser.parse_args()
    allowed = ON_MODEL if arguments.random else SECTIONS
    arguments.sections = arguments.sections or list(allowed)
    if not set(arguments.sections) <= set(allowed) or min(arguments.candidates, arguments.repeats) < 1:
        parser.error(f"sections are {', '.join(allowed)}; --candidates and --repeats at least 1")
    return arguments


def _size(text: str) -> tuple[int, int]:
    width, _, layers = text.partition("x")
    if not (width.isdigit() and layers.isdigit() and int(width) >= 128 and int(width) % 128 == 0 and int(layers) > 1):
        raise argparse.ArgumentTypeError("give a width that 128 divides and layers from 2, such as 2048x24")
    return int(width), int(layers)


def main() -> None:
    """Measure, print, write."""
    arguments, rows = _arguments(), []

    from tempfile import TemporaryDirectory

    from rich.console import Console

    from pipeline.artifacts.layout import Layout
    from pipeline.bench.run import measured, table
    from pipeline.bench.timing import machine
    from pipeline.config.params import read_params
    from pipeline.disk import files
    from pipeline.display import plain
    from pipeline.entry.program import guarded

    def run() -> None:
        name = arguments.model or read_params().models[0]
        with TemporaryDirectory() as cache:
            kind, found = measured(arguments, name, Path(cache))
        rows.extend(found)
        shown = "random " + "x".join(map(str, arguments.random)) if arguments.random else name
        # Wide enough for the widest row, also when the output is a file or a log.
        Console(width=140).print(table(rows, f"{shown}, {kind}, medians of {arguments.repeats}"))
        records = [row.record() for row in rows]
        record = {"model": shown, "on": kind, "repeats": arguments.repeats}
        layout, of = Layout(shown.replace(" ", "-"), ""), kind.replace(" ", "-")
        files.write_json(layout.bench(of), {**record, "rows": records})
        if arguments.keep:
            ratios = [row.record() for row in rows if row.is_ratio]
            files.write_json(layout.kept_bench(of), {**record, "machine": machine(), "rows": ratios})

    guarded(run)
    far = [row.name for row in rows if row.far_off]
    if far:
        sys.exit(plain(f"error: more than twice past its bound: {'; '.join(far)}"))
