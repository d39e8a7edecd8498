"""bench: what the pipeline costs beside plain ways of doing the same, in one process, in turn, as ratios.

Prints a table and writes outputs/bench/<model>-<dtype>-<device>.json. Times are of this machine as it is
now; ratios are what to compare. Exit status 1 when a ratio is more than twice past its bound.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from pipeline.artifacts.layout import Layout
from pipeline.bench import caching, generation, scaling, selection, stages
from pipeline.bench.material import N_PROMPTS, Material, compose_now, device_name, material, of_size, synthetic
from pipeline.bench.timing import Row
from pipeline.config.checks import AUTO
from pipeline.config.params import read_params
from pipeline.config.schema import DTYPES
from pipeline.disk import files
from pipeline.display import plain
from pipeline.entry.arguments import Parser
from pipeline.entry.given import settled
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.printed import Shown, words

# What needs the model's stages to have run, and what random weights of any size serve as well.
ON_MODEL: Mapping[str, Callable[[Material, argparse.Namespace], Iterator[Row]]] = {
    "selection": lambda m, a: selection.rows(m, a.candidates, a.repeats, not (a.sample or a.random)),
    "caching": lambda m, a: caching.rows(m, a.repeats, not (a.sample or a.random)),
    "generation": lambda m, a: generation.rows(m, a.repeats),
}
N_CANDIDATES = 96  # of random weights
SECTIONS = (*ON_MODEL, "stages", "scaling")


def table(rows: list[Row], title: str) -> Shown:
    """Rows for people; a bound that does not hold is marked."""
    shown = Shown(title=words(title, style="table.title"), title_justify="left")
    for name in ("section", "what", "value", "bound", "holds"):
        shown.add_column(name, justify="left" if name in ("section", "what") else "right")
    for row in rows:
        bound = "" if row.bound is None else f"{'>=' if row.at_least else '<='} {row.bound:.3g}"
        shown.add_row(row.section, row.name, f"{row.value:.3g} {row.unit}", bound, _holds(row))
    return shown


def _holds(row: Row) -> str:
    if row.bound is None:
        return ""
    return "yes" if (row.value >= row.bound if row.at_least else row.value <= row.bound) else "NO"


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--model", help="name of a file in conf/model/ (default: the first of params.yaml)")
    parser.add_argument("--random", type=_size, metavar="WIDTHxLAYERS", help="random weights of a size in its place")
    parser.add_argument("--dtype", choices=DTYPES, help="default: engine.dtype")
    parser.add_argument("--candidates", type=int, default=4, help="sampled for the comparison (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds behind each median (default: %(default)s)")
    parser.add_argument("--sample", action="store_true", help="neither a whole raced sweep nor peak memory: shorter")
    arguments = parser.parse_args()
    allowed = tuple(ON_MODEL) if arguments.random else SECTIONS
    arguments.sections = arguments.sections or list(allowed)
    if not set(arguments.sections) <= set(allowed) or min(arguments.candidates, arguments.repeats) < 1:
        parser.error(f"sections are {', '.join(allowed)}; --candidates and --repeats at least 1")
    return arguments


def _size(text: str) -> tuple[int, int]:
    width, _, layers = text.partition("x")
    if not (width.isdigit() and layers.isdigit() and int(width) >= 128 and int(width) % 128 == 0 and int(layers) > 1):
        raise argparse.ArgumentTypeError("give a width that 128 divides and layers from 2, such as 2048x24")
    return int(width), int(layers)


def _measured(arguments: argparse.Namespace, name: str, cache: Path) -> tuple[str, list[Row]]:
    """What was measured on, and every row."""
    layout, rows = Layout(name, read_params().label), []
    config = of_size(arguments.random, cache) if arguments.random else compose_now(name)
    dtype = arguments.dtype or settled(config, layout).engine.dtype
    if dtype == AUTO:  # no stage has settled it here
        raise UserError("engine.dtype is auto: give --dtype, or run `make repro` first")
    kind = f"{dtype}-{device_name(config)}"
    if set(arguments.sections) & ON_MODEL.keys():
        if arguments.random:
            found = synthetic(config, N_PROMPTS, N_CANDIDATES, dtype)
        else:
            found = material(config, layout, dtype)
        for section in arguments.sections:
            rows.extend(ON_MODEL[section](found, arguments) if section in ON_MODEL else [])
    if "stages" in arguments.sections:
        rows.extend(stages.rows(layout))
    if "scaling" in arguments.sections:
        rows.extend(scaling.rows(dtype, arguments.repeats))
    return kind, rows


def main() -> None:
    """Measure, print, write."""
    arguments, rows = _arguments(), []

    def run() -> None:
        name = arguments.model or read_params().models[0]
        with TemporaryDirectory() as cache:
            kind, found = _measured(arguments, name, Path(cache))
        rows.extend(found)
        shown = "random " + "x".join(map(str, arguments.random)) if arguments.random else name
        # Wide enough for the widest row, also when the output is a file or a log.
        Console(width=140).print(table(rows, f"{shown}, {kind}, medians of {arguments.repeats}"))
        records = [row.record() for row in rows]
        path = Layout(shown.replace(" ", "-"), "").bench(kind.replace(" ", "-"))
        files.write_json(path, {"model": shown, "on": kind, "repeats": arguments.repeats, "rows": records})

    guarded(run)
    far = [row.name for row in rows if row.far_off]
    if far:
        sys.exit(plain(f"error: more than twice past its bound: {'; '.join(far)}"))
