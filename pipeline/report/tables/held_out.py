"""Tables of the direction beside its controls, on test prompts that had no part in choosing it."""

from collections.abc import Iterator

from rich.table import Table

from pipeline import printed
from pipeline.maths.held_out import METRICS, RANKED, ScoredDirection
from pipeline.maths.labels import CONTROLS, control_kind, is_null
from pipeline.maths.statistics import Estimate
from pipeline.report.tables import wording
from pipeline.results.choosing import HeldOutScores, KlScore, MetricScore
from pipeline.results.metrics import Metrics

PROMPTS = {"bypass": "harmful", "subtraction": "harmful", "induce": "harmless"}


def tables(metrics: Metrics) -> Iterator[Table]:
    """What the direction does, then what each control is and does; neither without a direction."""
    if metrics.test_scores and metrics.direction:
        yield scores_table(metrics.test_scores)
        yield controls_table(metrics.test_scores, metrics.direction, metrics.controls)


def metrics_of(scores: HeldOutScores) -> dict[str, MetricScore]:
    """The three scores that are refusal metrics, by name."""
    return {name: getattr(scores, name) for name in METRICS}


def scores_table(scores: HeldOutScores) -> Table:
    """Refusal metric and KL of the direction, with its ranks where there are controls enough for one."""
    found = metrics_of(scores)
    ranked = [kind for kind in RANKED if any(kind in row.ranks for row in found.values())]
    ranks = [f"rank, {kind}" for kind in ranked]
    table = printed.table(
        "refusal metric and KL on test prompts, nats",
        *("measure", "unchanged", "direction", "change", "95 % interval", "n", *ranks, "null controls"),
    )
    for name, row in found.items():
        change = row.direction.change
        nulls = [moved.change for source, moved in row.controls.items() if is_null(source)]
        table.add_row(
            f"{PROMPTS[name]}, {wording.DONE[METRICS[name]]}",
            wording.value(row.baseline, "{:+.2f}"),
            wording.value(row.direction.score, "{:+.2f}"),
            *wording.number(change, "{:+.2f}"),
            *(wording.rank_and_p(row.ranks.get(kind)) for kind in ranked),
            wording.span(nulls, "{:+.2f}"),
        )
    kl = scores.kl
    nulls = [row for source, row in kl.controls.items() if is_null(source)]
    cells = wording.number(kl.direction, "{:.3f}")
    title = "harmless, ablated: KL"
    table.add_row(title, "", "", *cells, *([""] * len(ranked)), wording.span(nulls, "{:.3f}"))
    table.caption = printed.caption(*_notes(ranked))
    return table


def _notes(ranked: list[str]) -> Iterator[str]:
    yield "all test prompts, which chose nothing; change: after - before, same prompts; null controls: their range"
    yield "KL(unchanged || ablated) of next tokens at the last position"
    if ranked:
        yield (
            "rank: of the direction's change among the controls of one kind, first is the largest; "
            "p = (1 + at least as large) / (1 + controls)"
        )
    else:
        yield "no rank: among fewer than 19 controls of a kind first place says less than p = 0.05"


def controls_table(scores: HeldOutScores, direction: ScoredDirection, controls: dict[str, ScoredDirection]) -> Table:
    """A row for the direction and for each control: what it is, and what it does to the refusal metric."""
    columns = ("control", "cosine", "of the variance", *(wording.DONE[effect] for effect in METRICS.values()), "KL")
    table = printed.table("controls: change of the refusal metric on test prompts, nats", *columns)
    found = metrics_of(scores)
    kl: KlScore = scores.kl
    changes = [_change(row.direction.change) for row in found.values()]
    table.add_row("direction", *_facts(direction), *changes, wording.value(kl.direction, "{:.3f}"))
    table.add_section()
    for source in ordered(controls):
        changes = [_change(row.controls[source].change) for row in found.values()]
        name = source.replace("_", " ")
        table.add_row(name, *_facts(controls[source]), *changes, wording.value(kl.controls[source], "{:.3f}"))
    table.caption = printed.caption(*_kinds(direction, controls))
    return table


def ordered(controls: dict[str, ScoredDirection]) -> list[str]:
    """Sources by kind, and by number within a kind."""
    return sorted(controls, key=lambda source: (CONTROLS.index(control_kind(source)), int(source.rpartition("_")[2])))


def _facts(row: ScoredDirection) -> tuple[str, str]:
    return f"{row.cosine:+.2f}", f"{row.variance_share:.2%}"


def _change(row: Estimate) -> str:
    return f"{wording.value(row, '{:+.2f}')} {wording.interval(row, '{:+.2f}')}"


def _kinds(direction: ScoredDirection, controls: dict[str, ScoredDirection]) -> Iterator[str]:
    yield "cosine: with the direction; of the variance: within a class at the chosen place, what share lies along it"
    words = {
        "random": "random: isotropic, so that little varies along it",
        "covariance": "covariance: drawn from the activations' covariance within a class",
        "shuffled": "shuffled: of shuffled labels, less its part along the direction, with which it would be no null",
    }
    there = {row.kind for row in controls.values()}
    yield from (text for kind, text in words.items() if kind in there)
    yield f"all of them as long as the direction: {direction.norm:.2f}"
    for source, row in controls.items():
        if not is_null(source):
            yield f"{source.replace('_', ' ')}: its own difference in means, of length {row.norm:.2f}, and no null"
