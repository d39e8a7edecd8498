"""Tables of the ways to find a direction: what each chose, and what that does on equal terms."""

from collections.abc import Iterator, Mapping

from rich.table import Table

from pipeline import printed
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate
from pipeline.names import EQUAL_KL, EQUAL_NORM, ESTIMATOR_NAMES, KL_TOLERANCE, MEAN_DIFFERENCE, OWN_LENGTH
from pipeline.report.tables import wording
from pipeline.results.choosing import Effect, Estimator
from pipeline.results.metrics import Metrics

TERMS = {OWN_LENGTH: "added, as found", EQUAL_NORM: "added, at equal norm", EQUAL_KL: "added, at equal KL"}


def tables(metrics: Metrics) -> Iterator[Table]:
    """Both; none where no estimator was asked for."""
    if metrics.estimators:
        yield answers_table(metrics)
        yield terms_table(metrics.estimators)


def named(estimators: Mapping[str, Estimator]) -> dict[str, Estimator]:
    """Estimators by name in words, in their own order."""
    found = {name: estimators[name] for name in ESTIMATOR_NAMES if name in estimators}
    return {name.replace("_", " "): row for name, row in found.items()}


def answers_table(metrics: Metrics) -> Table:
    """Every estimator's choice and what answers it leaves, with the paired test against the difference in means."""
    columns = ("position, layer", "chosen again", "harmful, ablated", "p (Holm)", "harmless, added", "p (Holm)")
    table = printed.table("estimators: same prompts, places, rule and evaluation", "estimator", *columns)
    for title, estimator in named(metrics.estimators).items():
        evaluated = estimator.evaluated
        if not evaluated:
            table.add_row(title, "none")
            continue
        place = f"{evaluated.position}, {evaluated.layer}{'' if estimator.chosen else ' *'}"
        row = [title, place, chosen_again(estimator)]
        for kind, effect in (("harmful", "ablation"), ("harmless", "addition")):
            score = metrics.refusal_score.get(Label(kind, effect, estimator.conditions_of))
            shown = f"{wording.value(score, '{:.0%}')} {wording.interval(score, '{:.0%}')}" if score else "-"
            row += [shown, wording.p(estimator.against_mean_difference.get(effect))]
        table.add_row(*row)
    notes = [
        "harmful, ablated and harmless, added: refused answers, each finding added as it is; p: McNemar's exact test "
        "against the difference in means; below 0.05 a difference is shown",
        "chosen again: share of the resamples of val in which the rule makes the same choice",
    ]
    if any(not estimator.chosen for estimator in metrics.estimators.values()):
        notes.append("*: the rule keeps none of its candidates; this is the nearest miss, and keeping none the choice")
    table.caption = printed.caption(*notes)
    return table


def chosen_again(estimator: Estimator) -> str:
    """Share of the resamples of val in which the rule chooses what it chose, or again nothing."""
    chosen = estimator.chosen
    place = (chosen.position, chosen.layer) if chosen else (None, None)
    return f"{sum(win.share for win in estimator.wins if (win.position, win.layer) == place):.0%}"


def terms_table(estimators: Mapping[str, Estimator]) -> Table:
    """Refusal metric and KL of each estimator on test prompts: ablated, and added on three terms."""
    columns = ("effect", "length", "refusal metric", "less mean difference's", "p (Holm)", "KL")
    table = printed.table("estimators on equal terms: test prompts, nats, 95 % intervals", "estimator", *columns)
    for title, estimator in named(estimators).items():
        if estimator.ablation:
            table.add_row(title, "ablated", "", *_cells(estimator.ablation))
        for terms, words in TERMS.items():
            if addition := estimator.additions.get(terms):
                length = "-" if addition.length is None else f"{addition.length:.3g}"
                table.add_row("", words, length, *_cells(addition))
        table.add_section()
    table.caption = printed.caption(*_notes(estimators))
    return table


def _cells(effect: Effect) -> list[str]:
    against = effect.against_mean_difference
    less = [_both(against.change, "{:+.2f}"), wording.holm(against.p_holm)] if against else ["", ""]
    kl = "-" if effect.kl.value is None else _both(effect.kl, "{:.3f}")
    return [_both(effect.metric, "{:+.2f}"), *less, kl]


def _both(row: Estimate, form: str) -> str:
    return f"{wording.value(row, form)} {wording.interval(row, form)}"


def _notes(estimators: Mapping[str, Estimator]) -> Iterator[str]:
    reference = estimators[MEAN_DIFFERENCE]
    shown = {"ablated: harmful": reference.ablation, "added: harmless": reference.additions.get(OWN_LENGTH)}
    for words, effect in shown.items():
        if effect and effect.metric.value is not None and effect.change.value is not None:
            before = effect.metric.value - effect.change.value
            yield f"{words} prompts, n = {effect.metric.n}, whose metric in the unchanged model is {before:+.2f}"
    yield (
        "equal norm: as long as the difference in means at the same place; equal KL: multiplied until KL(unchanged || "
        f"added) is that of the difference in means as found, within {KL_TOLERANCE:.0%} of it"
    )
    yield "length: of what is added, at the place; of leace, an affine edit, its mean over harmless train prompts"
    yield (
        "less mean difference's: on the same prompts, the latter ablated or added as found; p: by the "
        "signs of these differences, each as likely to be the other (flip test), Holm's correction over the table"
    )
