"""The figure of the ways to find a direction: answers refused, and what additions do on equal terms."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.display import NAME, mathless
from pipeline.maths.evaluation import is_control
from pipeline.maths.labels import BASELINE, Label, is_null
from pipeline.maths.statistics import Estimate
from pipeline.names import EQUAL_KL, EQUAL_NORM, MEAN_DIFFERENCE, OWN_LENGTH
from pipeline.report.figures.marks import BLUE, GREEN, GREY, ORANGE, finish, percent, title_of
from pipeline.report.tables.estimators import named
from pipeline.results.choosing import Addition, Estimator
from pipeline.results.metrics import Metrics

KINDS = {"ablation": "harmful", "addition": "harmless"}  # prompts on which an effect is seen
# Colour and marker both tell the terms, so that a grey print does too.
TERMS = {
    OWN_LENGTH: ("as it is found", ORANGE, "o"),
    EQUAL_NORM: ("as long as the mean difference at its place", BLUE, "s"),
    EQUAL_KL: ("until its KL is the mean difference's", GREEN, "^"),
}


def figures(metrics: Metrics, stamp: str) -> dict[str, Figure]:
    """The figure by its name; none where no estimator was asked for."""
    if not metrics.estimators:
        return {}
    scores = metrics.refusal_score
    baselines = {kind: scores[Label(kind, BASELINE)] for kind in KINDS.values()}
    controls = {effect: _null_rates(scores, effect) for effect in KINDS}
    titled = {
        title + ("" if row.chosen else " (nearest miss)"): row for title, row in named(metrics.estimators).items()
    }
    rates = {title: _rates(metrics, row) for title, row in titled.items()}
    additions = {title: row.additions for title, row in titled.items()}
    reference = metrics.estimators[MEAN_DIFFERENCE].additions.get(OWN_LENGTH)
    return {
        "estimators": panels(rates, baselines, controls, additions, reference, title_of(metrics), metrics.judge, stamp)
    }


def _null_rates(scores: Mapping[Label, Estimate], effect: str) -> list[Estimate]:
    """Rates of null controls under an effect."""
    return [
        rate
        for label, rate in scores.items()
        if label.effect == effect and is_control(label.source) and is_null(label.source)
    ]


def _rates(metrics: Metrics, record: Estimator) -> dict[str, Estimate]:
    """Refusal score under an estimator's ablation and addition, where it was evaluated."""
    labels = {effect: Label(kind, effect, record.conditions_of) for effect, kind in KINDS.items() if record.evaluated}
    return {effect: metrics.refusal_score[label] for effect, label in labels.items() if label in metrics.refusal_score}


def panels(
    rates: Mapping[str, Mapping[str, Estimate]],
    baselines: Mapping[str, Estimate],
    controls: Mapping[str, Sequence[Estimate]],
    additions: Mapping[str, Mapping[str, Addition]],
    reference: Addition | None,
    title: str,
    judge: str,
    stamp: str,
) -> Figure:
    """Above: refused answers under ablation and addition of what each estimator found, beside null controls.

    Below: refusal metric and KL of harmless test prompts when it is added as found, at equal norm and at equal KL;
    `reference`: the difference in means, added as found.
    """
    figure = Figure(figsize=(12, 4.2 + 0.75 * len(rates)), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2, height_ratios=[len(rates) + 1, len(rates) + 1])
    for axis, effect, what in ((first, "ablation", "ablated"), (second, "addition", "added as found")):
        _answers(axis, [row.get(effect) for row in rates.values()], baselines[KINDS[effect]], controls[effect])
        axis.set_title(f"{KINDS[effect]} prompts, {what}:\nanswers refused", fontsize=10)
        axis.set_xlabel(f"refusal score [{mathless(judge, NAME)}]", fontsize=9)
    for axis, measure in ((third, "metric"), (fourth, "kl")):
        _terms(axis, list(additions.values()), measure)
    third.set_title("harmless test prompts, added:\nhow much refusal it brings", fontsize=10)
    third.set_xlabel("refusal metric, nats" + (f" (n = {reference.metric.n})" if reference else ""), fontsize=9)
    fourth.set_title("the same:\nhow much else it changes", fontsize=10)
    fourth.set_xlabel("KL(unchanged || added) of next tokens, nats", fontsize=9)
    if reference and reference.metric.value is not None and reference.change.value is not None:
        before = reference.metric.value - reference.change.value
        third.axvline(before, color="black", linewidth=1, linestyle=":")
        fourth.plot([], [], color="black", linewidth=1, linestyle=":", label="unchanged model, on the left")
    names = [mathless(name, NAME) for name in rates]
    first.set_yticks(range(len(names) + 1), [*names, "null controls"])
    third.set_yticks(range(len(names)), names)
    for axis in (second, fourth):
        axis.set_yticks([])
        axis.legend(fontsize=8, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    finish(figure, f"Estimators, and their additions on equal terms: {mathless(title)}", stamp)
    return figure


def _answers(axis: Axes, rows: Sequence[Estimate | None], base: Estimate, controls: Sequence[Estimate]) -> None:
    axis.axvspan(base.low or 0, base.high or 0, color=BLUE, alpha=0.15, linewidth=0)
    axis.axvline(base.value or 0, color=BLUE, linewidth=1, label="unchanged model, 95 % interval")
    for place, rate in enumerate(rows):
        _across(axis, place, rate, ORANGE, "o", "no candidate")
    for index, rate in enumerate(controls):
        _across(axis, len(rows) - 0.25 + 0.5 * index / max(1, len(controls) - 1), rate, GREY, "o", "")
    axis.set_xlim(-0.02, 1.02)
    axis.xaxis.set_major_formatter(percent)
    _rows(axis, len(rows) + 1)


def _terms(axis: Axes, rows: Sequence[Mapping[str, Addition]], measure: str) -> None:
    for number, (terms, (words, colour, marker)) in enumerate(TERMS.items()):
        axis.plot([], [], color=colour, marker=marker, markersize=5, label=f"added {words}")
        for place, additions in enumerate(rows):
            found: Estimate | None = getattr(additions[terms], measure) if terms in additions else None
            _across(axis, place + 0.25 * (number - 1), found, colour, marker, "not reached" if additions else "")
    if measure == "kl":
        axis.set_xlim(left=0)
    _rows(axis, len(rows))


def _rows(axis: Axes, n: int) -> None:
    axis.set_ylim(n - 0.5, -0.5)
    axis.spines[["top", "right"]].set_visible(False)


def _across(axis: Axes, place: float, rate: Estimate | None, colour: str, marker: str, missing: str) -> None:
    if rate is None or rate.value is None:
        axis.text(0.02, place, missing, va="center", fontsize=7, color=colour, transform=axis.get_yaxis_transform())
        return
    errors = None if rate.low is None or rate.high is None else [[rate.value - rate.low], [rate.high - rate.value]]
    axis.errorbar(rate.value, place, xerr=errors, color=colour, marker=marker, markersize=5, capsize=3)
