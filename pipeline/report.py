"""One readable table of the committed metrics of every model in params.yaml."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.artifacts.files import read_json
from pipeline.artifacts.layout import Layout
from pipeline.config.params import read_params
from pipeline.maths.selection import FOUND
from pipeline.stages.entry import guarded

ROWS = {
    "harmful_baseline": "harmful, baseline",
    "harmful_ablation": "harmful, direction ablated",
    "harmful_subtraction": "harmful, direction subtracted",
    "harmful_random_ablation": "harmful, random direction ablated",
    "harmful_random_subtraction": "harmful, random direction subtracted",
    "harmless_baseline": "harmless, baseline",
    "harmless_addition": "harmless, direction added",
    "harmless_random_addition": "harmless, random direction added",
}


def model_table(metrics: Mapping[str, Any]) -> Table:
    """Refusal scores with intervals, then KL, loss change and export agreement."""
    table = Table(title=f"{metrics['title']}: {metrics['verdict']}", title_justify="left", caption_justify="left")
    table.add_column("measure")
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right")
    for name, label in ROWS.items():
        if name in metrics["refusal_score"]:
            rate = metrics["refusal_score"][name]
            interval = f"{rate['low']:.1%} to {rate['high']:.1%}"
            table.add_row(
                f"refusal score ({metrics['judge']}), {label}",
                f"{rate['value']:.1%}",
                interval,
                str(rate["n"]),
            )
    if metrics["verdict"] == FOUND:
        _add_effects(table, metrics)
    else:
        table.caption = metrics["reason"]
    return table


def _add_effects(table: Table, metrics: Mapping[str, Any]) -> None:
    selection, export = metrics["selection"], metrics["export"]
    chosen = selection["chosen"]
    table.add_section()
    table.add_row(
        "KL(baseline || ablated), harmless val, nats", f"{chosen['kl']:.3f}", "", str(selection["n_val"]["harmless"])
    )
    for text, losses in metrics["loss"].items():
        for name in ("ablation", "random_ablation"):
            change = losses["change"][name]
            interval = f"{change['low']:+.4f} to {change['high']:+.4f}"
            label = f"CE loss change, {text}, {name.replace('_', ' ')}, nats/token"
            table.add_row(label, f"{change['value']:+.4f}", interval, str(change["n"]))
    table.add_section()
    if export["exported"]:
        _add_export(table, export)
    table.caption = (
        f"direction: position {chosen['position']}, layer {chosen['layer']}, chosen by rule {selection['rule']} "
        f"from {selection['n_candidates']} candidates ({selection['n_kept']} kept)"
    )
    if not export["exported"]:
        table.caption += f"\nnot exported: {export['reason']}"
    if reference := metrics["reference"]:
        table.caption += (
            f"\npublished choice: position {reference['position']}, layer {reference['layer']} ({reference['from']})"
        )


def _add_export(table: Table, export: Mapping[str, Any]) -> None:
    matched = export["greedy_equal"] + export["greedy_ties"]
    table.add_row(
        f"export = live ablation, greedy, {export['n_tokens']} tokens",
        f"{matched}/{export['n_prompts']}",
        f"{export['greedy_ties']} ties",
        str(export["n_prompts"]),
    )
    table.add_row("largest logit difference, export to live ablation", f"{export['logit_difference_max']:.1e}", "", "")
    table.add_row(
        "largest |cos| with r_hat in any layer of the export",
        f"{max(export['max_cosine_after']):.1e}",
        "",
        "",
    )
    table.add_row("writers of the residual stream edited", f"{export['n_edited']}/{export['n_writers']}", "", "")
    if not export["exact"]:
        table.add_row("export and live ablation", "not identical (norms after the writes)", "", "")


def main() -> None:
    """Print the table of every model in params.yaml, or of the metrics files given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", nargs="*", type=Path, help="metrics.json files (default: all of params.yaml)")
    arguments = parser.parse_args()

    def run() -> None:
        paths = arguments.metrics or [Layout(model).metrics for model in read_params().models]
        # Wide enough for the widest row, also when the output is a file or a log.
        console = Console(width=118)
        for path in paths:
            console.print(model_table(read_json(path)))

    guarded(run)


if __name__ == "__main__":
    main()
