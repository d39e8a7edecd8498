"""Printed tables of how stable the choice is, and what greedy answers depend on."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from pipeline import printed
from pipeline.report.tables import wording


def stability_table(record: Mapping[str, Any]) -> Table:
    """How often the winner wins, how far it is from the thresholds, how alike two halves are."""
    table = printed.table("stability of the choice", "measure", "value", "95 % interval")
    for row in record.get("wins", [])[:3]:
        place = f"position {row['position']}, layer {row['layer']}" if row["layer"] is not None else "no candidate"
        table.add_row(f"share of resamples of val that choose {place}", f"{row['share']:.1%}", "")
    for name, row in record.get("margins", {}).items():
        for score in (score for score in ("kl", "induce", "bypass") if score in row):
            place = f"{name.replace('_', ' ')} ({row['position']}, {row['layer']})"
            table.add_row(
                f"{place}: distance to the {score} threshold, nats",
                *wording.number(wording.estimate(row[score]), "{:+.3f}")[:2],
            )
    if "mean" in (halves := record.get("split_half_cosine", {})):
        spread = f"{halves['q025']:.3f} to {halves['q975']:.3f} (of splits)"
        table.add_row("cosine of the directions of two halves of train", f"{halves['mean']:.3f}", spread)
        control = halves["shuffled_labels"]
        spread = f"{control['q025']:.3f} to {control['q975']:.3f} (of splits)"
        table.add_row("the same with shuffled labels", f"{control['mean']:.3f}", spread)
    if record["reason"]:
        table.caption = printed.caption(record["reason"])
    return table


def invariance_table(record: Mapping[str, Any]) -> Table:
    """Greedy completions that change when only the way of computing does."""
    reference = record["reference"]
    against = f"batch size {reference['batch_size']}, {reference['dtype']}"
    title = f"greedy answers of {record['n_tokens']} tokens against {against}"
    columns = ("completions changed", "95 % interval", "n", "verdicts changed", "first token: median", "range")
    table = printed.table(title, "changed to", *columns)
    for name, row in record["variants"].items():
        first, changed = row["first_token"], row["verdicts"]
        table.add_row(
            name,
            *wording.number(wording.estimate(row["completions"]), "{:.0%}"),
            f"{round(changed['value'] * changed['n'])}",
            f"{first['median']:g}" if first else "-",
            f"{first['first']} to {first['last']} (n = {first['n']})" if first else "-",
        )
    return table
