"""All that the benchmark measures, section by section, and its table."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipeline.artifacts.layout import Layout
from pipeline.bench import caching, door, generation, scaling, selection, stages
from pipeline.bench.material import N_PROMPTS, Material, compose_now, device_name, material, of_size, synthetic
from pipeline.bench.timing import Row
from pipeline.config.checks import AUTO
from pipeline.config.params import read_params
from pipeline.entry.given import settled
from pipeline.errors import UserError
from pipeline.printed import Shown, words

# What needs the model's stages to have run, and what random weights of any size serve as well.
ON_MODEL: Mapping[str, Callable[[Material, argparse.Namespace], Iterator[Row]]] = {
    "selection": lambda m, a: selection.rows(m, a.candidates, a.repeats, not (a.sample or a.random)),
    "caching": lambda m, a: caching.rows(m, a.repeats, not (a.sample or a.random)),
    "generation": lambda m, a: generation.rows(m, a.repeats),
}
N_CANDIDATES = 96  # of random weights


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


def measured(arguments: argparse.Namespace, name: str, cache: Path) -> tuple[str, list[Row]]:
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
    if "help" in arguments.sections:
        rows.extend(door.rows(arguments.repeats))
    return kind, rows
