"""What adversarial suffixes do, by the objective of their search, beside what does not follow from it."""

from collections.abc import Iterator, Mapping

from pipeline.maths.statistics import Estimate
from pipeline.report.markdown import Row, table, with_interval
from pipeline.report.sentences.words import paragraph, percent
from pipeline.report.tables import wording
from pipeline.results.suffix import Effect, Measure, Objective, Returned

NONE = "No such run is committed yet.\n"
KINDS = ("harmful", "adversarial", "random", "harmless")


def suffixes(found: Mapping[Objective, Effect]) -> str:
    """A table and its sentences for each objective; in words where nothing was measured."""
    return "\n".join(_one(name, effect) for name, effect in found.items()) or NONE


def _one(name: str, effect: Effect) -> str:
    n = f"{effect.metric.harmful.n} test prompts that the model refuses, {effect.metric.harmless.n} harmless ones"
    made = "not searched on this model" if name == "given" else f"objective `{name}`"
    aim = f", target {effect.target!r}" if effect.target else ""
    head = f"**{_title(effect)}** ({made}{aim}; the best of {effect.n_suffixes} on val prompts; {n}):"
    columns = ("last token of the prompt", "no suffix", "suffix", "random suffixes", "harmless requests", "p (Holm)")
    return "\n".join((paragraph([head]), table(columns, _rows(effect)), paragraph(_sentences(name, effect))))


def _title(effect: Effect) -> str:
    """The verdict is on the refusal metric; whether fewer answers are refused is another question."""
    if effect.verdict != "suffix_lowers_refusal":
        return "The suffix does not lower refusal"
    if effect.refusal_score.adversarial_against_none.verdict == "lower":
        return "The suffix lowers refusal"
    return "The suffix lowers the refusal metric; that fewer answers are refused is not shown"


def _rows(effect: Effect) -> Iterator[Row]:
    yield _row("refusal metric, nats", effect.metric, "{:+.1f}")
    score, judged = effect.refusal_score, (effect.refusal_score.harmful, effect.refusal_score.adversarial)
    cells = [with_interval(row, "{:.0%}") for row in (*judged, score.random)]
    yield "refusal score", *cells, "", wording.holm(score.adversarial_against_none.p_holm)
    yield _row("cosine of `resid_pre` with the direction", effect.cosine, "{:.2f}")
    yield _row("written along the direction by the top heads", effect.heads_sum, "{:.2f}")
    yield _row("their attention on the instruction", effect.attention.instruction, "{:.2f}")
    yield _row("their attention on the suffix", effect.attention.suffix, "{:.2f}")


def _row(title: str, measure: Measure, form: str) -> Row:
    cells = [with_interval(getattr(measure, kind), form) for kind in KINDS]
    return title, *cells, wording.holm(measure.adversarial_against_none.p_holm)


def _sentences(name: str, effect: Effect) -> Iterator[str]:
    below = effect.below_harmless
    if name == "refusal" and below.value is not None and below.low is not None and below.low > 0:
        yield (
            f"The search lowered the first row itself, to {with_interval(below, '{:.1f}')} nats below harmless "
            "requests: further than it takes for a request to be answered."
        )
    parts = {
        "the direction's component, at every layer,": (effect.component, "random directions"),
        "what the top heads write": (effect.top_heads, "random heads of the same layers"),
    }
    for words, (row, others) in parts.items():
        yield _returned(words, row, others)


def _returned(words: str, row: Returned, others: str) -> str:
    if row.share.value is None:
        return f"How much returns with {words} is not measured: {row.share.note}."
    values = [one.value for one in row.controls if one.value is not None]
    beside = f" ({others}, {len(values)} draws: at most {percent(max(values))})" if values else ""
    more = not values or (row.share.low is not None and row.share.low > max(values))
    unshown = "" if more else f", which is not shown to be more than {others} give"
    whole = "" if _all(row.share) else "; the rest has passed another way"
    share = with_interval(row.share, "{:.0%}")
    return f"With {words} put back to what it is without suffix, {share} of the fall returns{beside}{unshown}{whole}."


def _all(share: Estimate) -> bool:
    return share.high is None or share.high >= 1
