"""Tables of the pages that hold the direction against something: controls, losses, other ways to find a direction."""

from collections.abc import Iterable, Iterator, Sequence

from pipeline.maths.comparisons import Comparison
from pipeline.maths.evaluation import is_control
from pipeline.maths.held_out import METRICS, ScoredDirection
from pipeline.maths.labels import CONTROLS, Label, Treatment, control_kind
from pipeline.maths.statistics import Estimate
from pipeline.report.markdown import Row, rate, table, with_interval
from pipeline.report.tables import held_out, wording
from pipeline.report.tables.estimators import TERMS, chosen_again, named
from pipeline.results.choosing import Effect, MetricScore
from pipeline.results.metrics import Metrics

KINDS = {
    "random": "isotropic random",
    "covariance": "drawn from the activations' covariance",
    "shuffled": "shuffled labels, less the part along the direction",
    "layer": "another layer, no null",
}
EFFECTS = (Label("harmful", "ablation"), Label("harmful", "subtraction"), Label("harmless", "addition"))
TEXTS = {
    "own_completions": "own harmless answers",
    "instruction_answers": "reference answers",
    "plain_text": "plain text",
}


def scores(metrics: Metrics) -> str:
    """What the direction does to the refusal metric and KL on test prompts, and its place among controls."""
    found = metrics.test_scores
    assert found is not None, "the run that is shown has a direction"
    columns = ("test prompts", "unchanged", "changed", "paired change, 95 % interval", "n")
    ranks = ("rank among random", "rank among covariance")
    rows = [_score(name, row) for name, row in held_out.metrics_of(found).items()]
    kl = ("harmless, KL(unchanged ‖ ablated), nats", "", "", with_interval(found.kl.direction, "{:.3f}"))
    return table((*columns, *ranks), [*rows, (*kl, str(found.kl.direction.n), "", "")])


def _score(name: str, row: MetricScore) -> Row:
    title = f"{held_out.PROMPTS[name]}, {wording.DONE[METRICS[name]]}: refusal metric, nats"
    before, after = (wording.value(each, "{:+.2f}") for each in (row.baseline, row.direction.score))
    change = row.direction.change
    ranks = (wording.rank_and_p(row.ranks.get(kind)) for kind in ("random", "covariance"))
    return title, before, after, with_interval(change, "{:+.2f}"), str(change.n), *ranks


def nulls(metrics: Metrics) -> str:
    """Each kind of control on the refusal metric of test prompts: how alike, what varies along it, what it does."""
    found, controls = metrics.test_scores, metrics.controls
    assert found is not None, "the run that is shown has a direction"
    assert metrics.direction is not None
    shown = held_out.metrics_of(found)
    titles = [f"{held_out.PROMPTS[name]}, {wording.DONE[METRICS[name]]}" for name in shown]
    columns = ("direction", "how many", "cosine with the direction", "share of the variance", *titles, "KL")
    changes = [wording.value(row.direction.change, "{:+.2f}") for row in shown.values()]
    own = f"{metrics.direction.variance_share:.2%}"
    rows: list[Row] = [("**the chosen one**", "", "", own, *changes, wording.value(found.kl.direction, "{:.3f}"))]
    for kind in CONTROLS:
        if sources := [source for source in held_out.ordered(controls) if control_kind(source) == kind]:
            facts = _facts([controls[source] for source in sources])
            spans = [_span((row.controls[source].change for source in sources), "{:+.2f}") for row in shown.values()]
            kl = _span((found.kl.controls[source] for source in sources), "{:.3f}")
            rows.append((KINDS[kind], str(len(sources)), *facts, *spans, kl))
    return table(columns, rows)


def _facts(rows: Sequence[ScoredDirection]) -> tuple[str, str]:
    return _between([row.cosine for row in rows], "{:+.2f}"), _between([row.variance_share for row in rows], "{:.2%}")


def _span(rows: Iterable[Estimate], form: str) -> str:
    return _between([row.value for row in rows if row.value is not None], form)


def _between(values: Sequence[float], form: str) -> str:
    """Smallest and largest, or the one that there is."""
    ends = dict.fromkeys(form.format(end) for end in (min(values), max(values))) if values else {}
    return " to ".join(ends)


def controlled(metrics: Metrics) -> str:
    """The paired change of the refusal score under each control that answered, with its interval and raw p."""
    sources = {
        label.source: None
        for label in wording.ordered(metrics.comparisons)
        if label.is_main and is_control(label.source)
    }
    ordered = sorted(sources, key=lambda source: (CONTROLS.index(control_kind(source)), source))
    columns = ("control", *(f"{label.kind}, {wording.DONE[label.effect]}" for label in EFFECTS))
    tests = metrics.comparisons
    rows = (
        (source.replace("_", " "), *(_moved(tests.get(Label(one.kind, one.effect, source))) for one in EFFECTS))
        for source in ordered
    )
    return table(columns, rows)


def _moved(test: Comparison | None) -> str:
    if test is None or test.change.value is None:
        return test.note if test else ""
    p = "" if test.p is None else f", p {test.p:.2g}"
    return f"{with_interval(test.change, '{:+.0%}')}{p}"


def losses(metrics: Metrics) -> str:
    """What ablation, subtraction and addition cost of cross-entropy, beside what null controls cost."""
    columns = ("direction", "text", "change of CE loss, nats per token", "changes under controls", "documents")
    return table(columns, _losses(metrics))


def _losses(metrics: Metrics) -> Iterator[Row]:
    for effect in ("ablation", "subtraction", "addition"):
        for name, title in TEXTS.items():
            if name not in metrics.loss or (row := metrics.loss[name].change.get(Treatment(effect))) is None:
                continue
            others = [
                change for done, change in metrics.loss[name].change.items() if done.effect == effect and done.source
            ]
            change, span = with_interval(row, "{:+.3f}"), wording.span(others, "{:+.3f}")
            yield wording.DONE[effect], title, change, span, str(row.n)


def estimators(metrics: Metrics) -> str:
    """What each estimator chose, and what answers that leaves."""
    columns = ("position, layer", "chosen again", "harmful, ablated", "p (Holm)", "harmless, added", "p (Holm)")
    rows: list[Row] = []
    for title, record in named(metrics.estimators).items():
        where = record.evaluated
        assert where is not None, "the run that is shown has evaluated every estimator"
        row = [title, f"{where.position}, {where.layer}{'' if record.chosen else ' *'}", chosen_again(record)]
        for kind, effect in (("harmful", "ablation"), ("harmless", "addition")):
            row.append(rate(metrics.refusal_score.get(Label(kind, effect, record.conditions_of))))
            row.append(wording.p(record.against_mean_difference.get(effect)))
        rows.append(row)
    return table(("estimator", *columns), rows)


def terms(metrics: Metrics) -> str:
    """Refusal metric and KL of each estimator on test prompts: ablated, and added on equal terms."""
    columns = ("estimator", "effect", "length", "refusal metric, nats", "less the mean difference's", "p (Holm)", "KL")
    rows: list[Row] = []
    for title, record in named(metrics.estimators).items():
        if record.ablation:
            rows.append((title, "ablated", "", *_cells(record.ablation)))
        for name, words in TERMS.items():
            if addition := record.additions.get(name):
                length = "" if addition.length is None else f"{addition.length:.3g}"
                rows.append((title, words, length, *_cells(addition)))
    return table(columns, rows)


def _cells(effect: Effect) -> Iterable[str]:
    against = effect.against_mean_difference
    less = (with_interval(against.change, "{:+.2f}"), wording.holm(against.p_holm)) if against else ("", "")
    return with_interval(effect.metric, "{:+.2f}"), *less, with_interval(effect.kl, "{:.3f}")


MAKERS = {
    "scores": scores,
    "nulls": nulls,
    "controlled": controlled,
    "losses": losses,
    "estimators": estimators,
    "terms": terms,
}
