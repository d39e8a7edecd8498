"""bench: what the pipeline costs beside plain ways of doing the same, in one process, in turn, as ratios.

Prints a table and writes outputs/bench/<model>-<dtype>-<device>.json. Times are of this machine as it is
now; ratios are what to compare. Exit status 1 when a ratio is more than twice past its bound.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.table import Table

from pipeline.artifacts import files
from pipeline.artifacts.layout import Layout
from pipeline.bench import caching, selection
from pipeline.bench.material import Material, compose_now, device_name, material
from pipeline.bench.timing import Row
from pipeline.config.params import read_params
from pipeline.config.schema import DTYPES
from pipeline.stages.entry import guarded

# A section is a function of the material and the command line that yields rows of the table.
SECTIONS: Mapping[str, Callable[[Material, argparse.Namespace], Iterator[Row]]] = {
    "selection": lambda m, a: selection.rows(m, a.candidates, a.repeats, not a.sample),
    "caching": lambda m, a: caching.rows(m, a.repeats, not a.sample),
}


def table(rows: list[Row], title: str) -> Table:
    """Rows for people; a bound that does not hold is marked."""
    shown = Table(title=title, title_justify="left")
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--model", help="name of a file in conf/model/ (default: the first of params.yaml)")
    parser.add_argument("--dtype", choices=DTYPES, help="default: engine.dtype")
    parser.add_argument("--candidates", type=int, default=4, help="sampled for the comparison (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds behind each median (default: %(default)s)")
    parser.add_argument("--sample", action="store_true", help="neither a whole raced sweep nor peak memory: shorter")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.sections if name not in SECTIONS]
    if unknown or min(arguments.candidates, arguments.repeats) < 1:
        parser.error(f"sections are {', '.join(SECTIONS)}; --candidates and --repeats at least 1")
    return arguments


def main() -> None:
    """Measure, print, write."""
    arguments, rows = _arguments(), []

    def run() -> None:
        name = arguments.model or read_params().models[0]
        layout = Layout(name)
        found = material(compose_now(name), layout, arguments.dtype)
        kind = f"{str(found.model.hf.dtype).removeprefix('torch.')}-{found.model.device.type}"
        for section in arguments.sections:
            rows.extend(SECTIONS[section](found, arguments))
        facts = {"model": name, "device": device_name(found.model), "repeats": arguments.repeats}
        Console().print(table(rows, f"{name}, {kind}, {facts['device']}"))
        files.write_json(layout.bench(kind), {**facts, "rows": [row.record() for row in rows]})

    guarded(run)
    far = [row.name for row in rows if row.far_off]
    if far:
        sys.exit(f"error: more than twice past its bound: {'; '.join(far)}")


if __name__ == "__main__":
    main()
