"""Fit the embedded safety judge: python -m pipeline fit-probe

A linear probe on the unmodified default model, fitted on the human-labelled completions that conf/probe.yaml
names. Its agreement with people is cross-validated by prompt. --reference measures agreement with another
judge's labels, which are never fitted on: rows of {prompt, response, label: safe or unsafe} as JSONL or JSON,
or a folder of published evaluations. An interrupted run goes on where it stopped.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Column

from pipeline.config.compose import compose
from pipeline.config.probe import PATH, read_spec
from pipeline.config.schema import Config
from pipeline.entry.arguments import Parser
from pipeline.entry.folders import cache_folder, mirror_folder
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.judges.probe.file import SHIPPED, SafetyProbe, read_probe, write_probe
from pipeline.judges.probe.labelled import Reference, read_reference, read_sources
from pipeline.printed import Shown
from pipeline.sources import fetch

RANGES = ("all", "answered", "substring")


def make(arguments: argparse.Namespace) -> SafetyProbe:
    """Fit, or read what is fitted; measure against every reference; write."""
    from pipeline.entry.model import open_model
    from pipeline.judges.probe import fitting

    references = dict(map(_reference, arguments.reference))  # read first: a typo must not cost a fit
    spec = read_spec(arguments.spec)
    config = OmegaConf.to_object(compose(spec.model, arguments.profile, arguments.override))
    assert isinstance(config, Config)
    cache, mirror = cache_folder(config), mirror_folder(config)
    if arguments.measure:
        probe = read_probe(arguments.out)
        model = open_model(config)
        probe.require(fitting.facts(config, model))
    else:
        excluded = set(spec.excluded)
        rows = read_sources(spec.sources, excluded, lambda artefact: fetch(artefact, cache, mirror))
        model = open_model(config)
        probe = fitting.fit(config, spec, rows, model, cache)
    found = {name: fitting.measure(config, probe, rows, model, spec.seed) for name, rows in references.items()}
    probe = replace(probe, record={**probe.record, "references": {**probe.record["references"], **found}})
    write_probe(arguments.out, probe)
    return probe


def _reference(text: str) -> tuple[str, Reference]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise UserError(f"--reference {text}: use NAME=FILE or NAME=FOLDER")
    return name, read_reference(Path(path))


def table(probe: SafetyProbe) -> Shown:
    """Agreement on data that the probe was not fitted on."""
    columns = ("held against", "completions", "n", "unsafe", "kappa, 95 %", "AUROC, 95 %", "caught", "false alarms")
    shown = Shown(*(Column(name, no_wrap=index < 4) for index, name in enumerate(columns)))
    parts = {"people, cross-validated": probe.record["cross_validated"], **probe.record["references"]}
    for name, record in parts.items():
        for key in RANGES:
            if part := record[key]:
                kind = "all, by substring alone" if key == "substring" else key
                values = [_interval(part[key]) for key in ("kappa", "auroc", "caught", "false_alarms")]
                shown.add_row(name, kind, str(part["n"]), str(part["n_true"]), *values)
                name = ""
        shown.add_section()
    return shown


def _interval(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return ""
    if estimate["value"] is None:
        return estimate["note"]
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    return f"{value:.2f} ({estimate['note']})" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Read the command line, fit, measure, print."""
    parser = Parser(__doc__)
    parser.add_argument("--spec", type=Path, default=PATH, help="what to fit (default: conf/probe.yaml)")
    parser.add_argument(
        "--profile", default="standard", help="engine settings from conf/profile (default: %(default)s)"
    )
    parser.add_argument("--override", action="append", default=[], help="configuration value, such as fetch.cache=DIR")
    parser.add_argument("-o", "--out", type=Path, default=SHIPPED, help="the probe's file (default: the shipped one)")
    parser.add_argument("--measure", action="store_true", help="do not fit: measure the probe that --out already holds")
    parser.add_argument(
        "--reference", action="append", default=[], metavar="NAME=PATH", help="labels to measure agreement with"
    )
    arguments = parser.parse_args()
    guarded(lambda: Console(width=150).print(table(make(arguments))))
