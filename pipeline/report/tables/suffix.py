"""Printed tables of the suffix analysis: what a suffix changes, and what comes back when parts are put back."""

from collections.abc import Callable, Iterator, Sequence

from rich.table import Table

from pipeline import printed
from pipeline.maths.statistics import Estimate
from pipeline.report.tables import wording
from pipeline.results.suffix import Analysis, Effect, Measure, Measured, Restored, Returned, Scores, Suffix

REGIONS = {"before": "template before", "instruction": "instruction", "suffix": "suffix", "after": "template after"}
OBJECTIVES = {
    "refusal": "the refusal metric itself",
    "affirmative": "an affirmative beginning",
    "given": "not searched",
}
SHARE = "{:.0%}"


def tables(suffix: Suffix) -> Iterator[Table]:
    """Every such table; none where the stage was not run, and the reason alone where it had nothing to analyse."""
    if suffix.verdict == "not_run":
        return
    if suffix.measured is None:
        table = printed.table(f"adversarial suffixes: {suffix.verdict}", "reason")
        table.add_row(suffix.reason)
        yield table
        return
    yield objectives_table(suffix.measured)
    for analysis in suffix.measured.analyses.values():
        yield kinds_table(suffix.measured, analysis)
        yield restoration_table(analysis)
        if len(analysis.tried) > 1:
            yield tried_table(analysis)


def side_by_side(measured: Measured) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Columns and rows of the table that has the suffix of each objective beside the others', as cells."""
    effects = [analysis.effect for analysis in measured.analyses.values()]
    heads = len(next(iter(measured.analyses.values())).heads)
    rows = [
        _compared("refusal metric, nats", effects, lambda one: one.metric, "{:+.2f}"),
        ("its mean lies below that of harmless prompts by, nats", "", "", *map(_below, effects)),
        _compared(f"refusal score [{measured.judge}]", effects, lambda one: one.refusal_score, SHARE),
        _compared(f"cosine with the direction, layer {measured.layer}", effects, lambda one: one.cosine, "{:.2f}"),
        _compared(f"written along it by the {heads} top heads", effects, lambda one: one.heads_sum, "{:.2f}"),
        _compared("their attention on the instruction", effects, lambda one: one.attention.instruction, "{:.2f}"),
        _compared("their attention on the suffix", effects, lambda one: one.attention.suffix, "{:.2f}"),
        ("returned by the direction's component", "", "", *(_returned(one.component) for one in effects)),
        ("returned by the top heads", "", "", *(_returned(one.top_heads) for one in effects)),
    ]
    columns = [f"suffix, objective: {_objective(one)}" for one in effects]
    return ("last token of the prompt", "harmless", "refused, no suffix", *columns), rows


def _objective(effect: Effect) -> str:
    words = OBJECTIVES[effect.objective]
    return f"{words} '{effect.target}'" if effect.target else words


def _compared(
    label: str, effects: Sequence[Effect], of: Callable[[Effect], Measure | Scores], form: str
) -> Sequence[str]:
    first = of(effects[0])
    harmless = _cell(first.harmless, form) if isinstance(first, Measure) else ""
    return label, harmless, _cell(first.harmful, form), *(_cell(of(one).adversarial, form) for one in effects)


def _cell(row: Estimate, form: str) -> str:
    return f"{wording.value(row, form)} {wording.interval(row, form)}"


def _below(effect: Effect) -> str:
    return _cell(effect.below_harmless, "{:+.2f}")


def _returned(part: Returned) -> str:
    if part.share.value is None:
        return f"({part.share.note})"
    return f"{_cell(part.share, SHARE)}, random ones {wording.span(part.controls, SHARE)}"


def objectives_table(measured: Measured) -> Table:
    """The suffix of each objective side by side."""
    columns, rows = side_by_side(measured)
    table = printed.table(f"adversarial suffixes ({measured.source})", *columns)
    for row in rows:
        table.add_row(*row)
    n = measured.n
    table.caption = printed.caption(
        f"mean and 95 % interval; {n.harmful} refused and {n.harmless} answered test prompts; no search saw them",
        "returned: share of the fall of the refusal metric that comes back when a part alone is as without suffix",
        *(_searched(one) for one in measured.analyses.values()),
    )
    return table


def _searched(analysis: Analysis) -> str:
    """What the search lowered, how far, at what cost; and what that says of the first row."""
    if not analysis.searches:
        return f"{len(analysis.tried)} given, not searched on this model"
    row = analysis.searches[analysis.chosen]
    what, said = f"cross-entropy of '{row.target}'", "the refusal metric was not its objective"
    if row.objective == "refusal":
        what, said = "the refusal metric", "so the first row says how well it searched"
    return (
        f"objective {row.objective}: the search lowered {what} from {row.loss_before:.2f} to {row.loss_after:.2f} nats "
        f"on {row.n_prompts} train prompts ({row.suffix_tokens} tokens, {row.steps} steps of {row.candidates} "
        f"candidates, {row.cpu_minutes} CPU minutes): {said}"
    )


def kinds_table(measured: Measured, analysis: Analysis) -> Table:
    """Every measure without suffix, with the adversarial one and with random ones, on the same harmful prompts."""
    effect, heads = analysis.effect, len(analysis.heads)
    table = printed.table(
        f"adversarial suffix, objective: {_objective(effect)}: {effect.verdict}",
        *("harmful prompts, last token", "n", "harmless", "no suffix", "suffix", "random suffix"),
        *("suffix - none", "p (Holm)", "suffix - random", "p (Holm)"),
    )
    _add(table, "refusal metric, nats", effect.metric)
    _add(table, f"refusal score [{measured.judge}]", effect.refusal_score)
    _add(table, f"cosine with the direction, input of block {measured.layer}", effect.cosine)
    _add(table, f"written along the direction by the {heads} top heads", effect.heads_sum)
    for region, words in REGIONS.items():
        _add(table, f"attention of the {heads} top heads on: {words}", getattr(effect.attention, region))
    table.caption = printed.caption(*_notes(measured, analysis))
    return table


def _add(table: Table, label: str, row: Measure | Scores) -> None:
    harmless = row.harmless.value if isinstance(row, Measure) else None
    values = (harmless, row.harmful.value, row.adversarial.value, row.random.value)
    shown = ["-" if value is None else f"{value:.3f}" for value in values]
    for test in (row.adversarial_against_none, row.adversarial_against_random):
        shown += [wording.value(test.change, "{:+.3f}"), wording.holm(test.p_holm)]
    table.add_row(label, str(row.harmful.n), *shown)


def _notes(measured: Measured, analysis: Analysis) -> Iterator[str]:
    yield analysis.effect.reason
    if measured.made_for:
        tried = f"{len(analysis.tried)} tried, {len(analysis.random_draws)} random ones"
        yield f"suffixes made for: {measured.made_for}; {tried}"
    yield random_statement(analysis)
    parts = analysis.decomposition
    error = max(parts.sum_error, parts.heads_error)
    yield (
        f"embedding + heads + biases + MLPs give the projection of the residual stream within {error:.0e} (relative)"
        if parts.holds
        else f"PARTS DO NOT ADD UP: off by {error:.0e} of the residual stream, more than {parts.tolerance:.0e}"
    )
    yield (
        "p: by the signs of the changes, each as likely to be the other (flip test); refusal score: McNemar's; Holm's "
        "correction"
    )


def random_statement(analysis: Analysis) -> str:
    """At how many layers random suffixes move the cosine as well."""
    left, n_layers = analysis.random_outside, len(analysis.cosine)
    interval = "the 95 % interval of the same prompts without suffix"
    if not left:
        return f"random suffixes keep the mean cosine within {interval} at all {n_layers} layers"
    layers = ", ".join(map(str, left))
    return f"random suffixes move the mean cosine out of {interval} at {len(left)} of {n_layers} layers: {layers}"


def restoration_table(analysis: Analysis) -> Table:
    """How much of the fall of the refusal metric comes back, beside random heads and directions."""
    effect, found = analysis.effect, analysis.restoration
    table = printed.table(
        f"parts put back to what they are without suffix, after the instruction; objective: {_objective(effect)}",
        *("put back", "metric changes by, nats", "95 % interval", "share of the fall", "95 % interval"),
        *("random ones", "p against them (Holm)"),
    )
    rows: dict[str, tuple[Restored, Sequence[Restored], Returned | None]] = {
        "top heads": (found.top_heads, found.random_heads, effect.top_heads),
        "top heads, last token only": (found.top_heads_last, [], None),
        "every head": (found.all_heads, [], None),
        "the direction's component, every layer": (found.component, found.random_directions, effect.component),
        "the direction's component, last token only": (found.component_last, [], None),
    }
    for words, (row, draws, returned) in rows.items():
        shown = [*wording.number(row.against_suffix.change, "{:+.3f}")[:2]]
        shown += [wording.value(row.returned, SHARE), wording.interval(row.returned, SHARE)]
        if returned:
            shown += [_span(draws), wording.holm(returned.against_controls.p_holm)]
        table.add_row(words, *shown)
    fall = effect.metric.adversarial_against_none.change
    table.caption = printed.caption(
        f"with the suffix the refusal metric changes by {wording.value(fall, '{:+.3f}')} nats: the whole fall",
        partly(effect),
    )
    return table


def _span(draws: Sequence[Restored]) -> str:
    return wording.span([draw.against_suffix.change for draw in draws], "{:+.3f}")


def partly(effect: Effect) -> str:
    """Whether the direction's component explains the fall, a part of it, or nothing of it."""
    share = effect.component.share
    if share.value is None or share.low is None or share.high is None:
        return f"no share: {share.note}"
    if effect.component.against_controls.verdict != "higher":
        return "the direction's component returns no more of it than random directions do"
    if share.high < 1:
        return f"the direction's component returns {_cell(share, SHARE)} of it: the rest goes by other ways"
    return f"the direction's component returns {_cell(share, SHARE)} of it: all of it cannot be excluded"


def tried_table(analysis: Analysis) -> Table:
    """Every suffix of one objective, by the beginning of its sha256."""
    table = printed.table(
        f"every suffix tried; objective: {_objective(analysis.effect)}",
        *("suffix (sha256)", "tokens", "refusal metric, nats", "95 % interval", "suffix - none", "p (Holm)", "verdict"),
    )
    for row in analysis.tried:
        change = wording.value(row.against_none.change, "{:+.3f}")
        tokens = f"{row.tokens.fewest}" if row.tokens.fewest == row.tokens.most else f"up to {row.tokens.most}"
        cells = (*wording.number(row.metric, "{:+.3f}")[:2], change, wording.holm(row.against_none.p_holm))
        table.add_row(row.sha256[:12], tokens, *cells, row.against_none.verdict)
    lower, higher = (sum(row.against_none.verdict == word for row in analysis.tried) for word in ("lower", "higher"))
    table.caption = printed.caption(
        f"{lower} of {len(analysis.tried)} lower the refusal metric, {higher} raise it; measured further: "
        f"{analysis.tried[analysis.chosen].sha256[:12]}, the lowest on val prompts"
    )
    return table
