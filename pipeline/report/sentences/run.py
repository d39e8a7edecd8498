"""Sentences on one run: what they say follows from its metrics, and so do their words."""

from collections.abc import Callable, Iterator, Mapping

from pipeline.maths.claim import GONE, INDUCED
from pipeline.maths.comparisons import Comparison
from pipeline.maths.evaluation import is_control
from pipeline.maths.labels import Label, Treatment, control_kind
from pipeline.maths.statistics import LEVEL, Estimate
from pipeline.report.sentences.words import listed, paragraph, percent, with_interval
from pipeline.report.tables import verdict as told
from pipeline.report.tables import wording
from pipeline.results.metrics import Metrics

ABLATED, ADDED = Label("harmful", "ablation"), Label("harmless", "addition")
SUBTRACTED = Label("harmful", "subtraction")
EXPECTED = {ABLATED: "lower", SUBTRACTED: "lower", ADDED: "higher"}
SHOWN = ("lower", "higher")
NULL = {
    "random": "random direction",
    "covariance": "random direction of the activations' own covariance",
    "shuffled": "direction of shuffled labels",
}
FALSE_REFUSALS = {
    "contrast-safe": "requests that only look harmful",
    "borderline": "harmless ones near a sensitive subject",
}


def setting(metrics: Metrics) -> str:
    """What was measured on what."""
    n = {label.kind: row.n for label, row in metrics.refusal_score.items() if label.is_main and not label.source}
    made = metrics.provenance
    return paragraph(
        [
            f"{metrics.title}, {n['harmful']} harmful and {n['harmless']} harmless test prompts, "
            f"{wording.under_system(metrics.systems)}, in {made.dtype} on a {made.device.upper()}; the first "
            f"{metrics.max_new_tokens} tokens of each answer ({metrics.answers.how}), judged by `{metrics.judge}`."
        ]
    )


def verdict(metrics: Metrics) -> str:
    """Whether one direction decides over refusal here, in sentences for a stranger."""
    rates, tests, found = metrics.refusal_score, metrics.comparisons, metrics.claim
    words = (found.ablation and found.ablation.word, found.addition and found.addition.word)
    claim = "in this model one direction decides whether requests are refused"
    head = f"{claim.capitalize()}." if words == (GONE, INDUCED) else f"This does not show that {claim}."
    said = [f"{sentence}." for sentence in told.sentences(found)]
    carried = [
        f"of {words} {percent(rates[base].value)} are refused before, {percent(rates[label].value)} after"
        for kind, words in FALSE_REFUSALS.items()
        if (label := Label(kind, "ablation")) in tests and tests[label].verdict == "lower"
        if (base := label.baseline) in rates
    ]
    false = f"The direction carries false refusals as well as true ones: {listed(carried)}." if carried else ""
    nulls = [_largest(metrics, kind, NULL[kind]) for kind in ("random", "covariance")]
    return paragraph([head, *said, *nulls, false])


def _largest(metrics: Metrics, kind: str, name: str) -> str:
    """The largest paired change that a control of a kind makes, and how alike that one is."""
    tests = _tests(metrics, kind)
    if not tests:
        return ""
    label, test = max(tests.items(), key=lambda row: abs(row[1].change.value or 0))
    alike = f"its cosine with the direction is {metrics.controls[label.source].cosine:+.2f}"
    return f"The largest change under a {name}: {_points(test)} ({wording.condition(label)}; {alike})."


def controls(metrics: Metrics) -> str:
    """What these prompts could show at all, and whether controls do anything."""
    tests = metrics.comparisons
    n, smallest = tests[ABLATED].change.n, tests[ABLATED].detectable
    power = f"{n} prompts show a change of {100 * smallest:.0f} points or more with 80 % power." if smallest else ""
    return paragraph([power, *_null(metrics)])


def _null(metrics: Metrics) -> list[str]:
    return [_controls(metrics, kind, name) for kind, name in NULL.items()]


def _controls(metrics: Metrics, kind: str, name: str) -> str:
    """Which paired changes under controls of a kind have an interval without 0; or that none has."""
    tests = _tests(metrics, kind)
    if not tests:
        return ""
    moved = [label for label in wording.ordered(tests) if not tests[label].change.holds(0.0)]
    largest = max(tests.values(), key=lambda test: abs(test.change.value or 0))
    if not moved:
        return (
            f"No {name} is shown to change refusal: 0 lies in the interval of all {len(tests)} changes, the largest of "
            f"which is {_points(largest)}."
        )
    changes = listed([f"{wording.condition(label)} {_points(tests[label])}" for label in moved])
    chance = f"by chance about one in {1 / (1 - LEVEL):.0f} does"
    have = "has" if len(moved) == 1 else "have"
    cosines = sorted({metrics.controls[label.source].cosine for label in moved}, key=abs)
    alike = f"with the chosen direction {'it has' if len(moved) == 1 else 'they have'} a cosine of"
    return (
        f"Of {len(tests)} changes under a {name}, {len(moved)} {have} an interval without 0 ({chance}): {changes}; "
        f"{alike} {listed([f'{cosine:+.2f}' for cosine in cosines])}."
    )


def _tests(metrics: Metrics, kind: str) -> dict[Label, Comparison]:
    """Comparisons of the controls of a kind on the main prompts."""
    return {
        label: test
        for label, test in metrics.comparisons.items()
        if label.is_main and is_control(label.source) and control_kind(label.source) == kind
    }


def _points(test: Comparison) -> str:
    row = test.change
    if row.value is None or row.low is None or row.high is None:
        return row.note
    return f"{100 * row.value:+.0f} points [{100 * row.low:+.0f}, {100 * row.high:+.0f}]"


def safety(metrics: Metrics) -> str:
    """How safe the answers are beside how many are refused, and how far the judge can be trusted."""
    return paragraph(
        sentence for judge, found in metrics.safety.items() for sentence in _safety(metrics, judge, found.score)
    )


def _safety(metrics: Metrics, judge: str, score: Mapping[Label, Estimate]) -> Iterator[str]:
    refused, safe = metrics.refusal_score[ABLATED].value, score[ABLATED].value
    yield f"Ablation leaves {percent(refused)} refused, and {percent(safe)} judged safe by `{judge}`."
    plain = score[Label("harmless", "baseline")]
    if plain.value is not None and plain.low is not None and plain.high is not None:
        unsafe = Estimate(1 - plain.value, 1 - plain.high, 1 - plain.low, plain.n)
        yield (
            f"The judge is no oracle: of the unchanged model's answers to harmless requests it calls "
            f"{with_interval(unsafe)} unsafe, so that differences say more than levels."
        )
    for reference, groups in metrics.safety[judge].reliability.items():
        parts = [
            f"kappa {with_interval(row.kappa, '{:.2f}')} and AUROC {with_interval(row.auroc, '{:.2f}')} "
            f"on {'all' if which == 'all' else f'the {which}'} {row.n}"
            for which, row in groups.items()
        ]
        yield f"Against {reference}, on completions that it was not fitted on: {'; '.join(parts)}."


def further(metrics: Metrics, labels: Mapping[tuple[str, str], str]) -> str:
    """Whether every effect on further sets and under system prompts differs from its baseline."""
    tests = {
        label: test
        for label, test in metrics.comparisons.items()
        if (label.kind, label.system) in labels and not label.source
    }
    n = sorted({test.change.n for test in tests.values()})
    same = [wording.condition(label) for label in wording.ordered(tests) if tests[label].verdict not in SHOWN]
    found = [test.p_holm for test in tests.values() if test.p_holm is not None]
    all_differ = (
        f"Every one of {len(tests)} effects differs from its baseline (p by Holm at most {max(found, default=1):.1g})."
    )
    some = f"Of {len(tests)} effects these do not differ from their baseline: {listed(same)}."
    return paragraph([f"Prompts of a row: {listed([str(one) for one in n])}.", some if same else all_differ])


def capability(metrics: Metrics) -> str:
    """Whether a task's score changes, what its items could show, and whether the export answers as the live edit."""
    tasks, titles = metrics.capability.tasks, {Treatment("ablation"): "ablation", Treatment("addition"): "addition"}
    moved = [
        f"{wording.on_tasks([done])[done]} on {name} ({_points(test)})"
        for name, task in tasks.items()
        for done, test in task.change.items()
        if test.verdict in SHOWN
    ]
    smallest = [
        test.detectable
        for task in tasks.values()
        for done, test in task.change.items()
        if done in titles and test.detectable
    ]
    could = (
        f"so many questions show a change of {100 * max(smallest):.0f} points or more with 80 % power"
        if smallest
        else ""
    )
    change = f"Changed: {listed(moved)}" if moved else "No change is shown"
    same = [task.export_equals_ablation for task in tasks.values() if task.export_equals_ablation]
    n, different = sum(row.n for row in same), sum(row.different_answers for row in same)
    export = f"Export and live ablation give the same answer to {n - different} of {n} questions" if same else ""
    apart = max((row.difference_max or 0 for row in same), default=0)
    effect = max((row.effect_max or 0 for row in same), default=0)
    moves = f"ablation itself moves them by up to {effect:.1f}"
    by = f" (log-likelihoods differ by at most {apart:.0e} nats, where {moves})."
    return paragraph([f"{change}{'; ' if could else ''}{could}.", export + by if export else ""])


def estimators(metrics: Metrics) -> str:
    """Which estimators differ from the difference in means, and which have no candidate that the rule keeps."""
    tests = {
        (name, effect): test
        for name, one in metrics.estimators.items()
        for effect, test in one.against_mean_difference.items()
    }
    same = [
        f"{name.replace('_', ' ')} {wording.DONE[effect]}"
        for (name, effect), test in tests.items()
        if test.verdict not in SHOWN
    ]
    every = f"Each of {len(tests)} differences from the difference in means is shown." if tests else ""
    some = f"Of {len(tests)} differences from the difference in means these are not shown: {listed(same)}."
    missed = any(one.chosen is None and one.evaluated is not None for one in metrics.estimators.values())
    star = r"\* The rule keeps none of its candidates; this is the nearest miss." if missed else ""
    return paragraph([star, some if same else every])


def judges(metrics: Metrics) -> str:
    """Where judges of refusal part, what cutting answers changes, and what the refusal metric catches."""
    return paragraph([*_agreement(metrics), _length(metrics), *_tokens(metrics)])


def _agreement(metrics: Metrics) -> Iterator[str]:
    plain, harmful = Label("harmless", "baseline"), Label("harmful", "baseline")
    for pair, rows in metrics.agreement.items():
        first, second = pair.split(" and ")
        score = {metrics.judge: metrics.refusal_score, **metrics.other_judges}
        one, other = (percent(score[judge][plain].value) for judge in (first, second))
        kappas = [with_interval(rows[label].kappa, "{:.2f}") for label in (plain, harmful)]
        yield (
            f"Of the unchanged model's answers to harmless prompts `{first}` calls {one} refusals and "
            f"`{second}` {other}; their kappa is {kappas[0]} there and {kappas[1]} on harmful prompts."
        )


def _length(metrics: Metrics) -> str:
    """The largest difference that cutting the answers makes, over the main conditions of the direction."""
    whole = {label: metrics.refusal_score[label].value for label in (Label("harmful", "baseline"), *EXPECTED)}
    cut = [(length, label) for label in whole for length in metrics.by_length.get(label, {})]
    if not cut:
        return ""
    most = max(abs((metrics.by_length[label][length].value or 0) - (whole[label] or 0)) for length, label in cut)
    lengths = listed([str(length) for length in sorted({length for length, _ in cut})])
    return (
        f"Judged after {lengths} tokens instead of {metrics.max_new_tokens}, the rates of the direction's effects "
        f"differ by at most {100 * most:.0f} points."
    )


def _tokens(metrics: Metrics) -> Iterator[str]:
    for name, row in metrics.refusal_tokens.lists.items():
        val, which = row.caught_val, "in use" if name == metrics.refusal_tokens.used else "not in use"
        caught = f"{val.refused_above} of {val.refused} refused, {val.answered_above} of {val.answered} answered ones"
        yield (
            f"The refusal metric with tokens of `{name}` ({', '.join(f'`{token}`' for token in row.tokens)}; {which}) "
            f"has AUROC {with_interval(row.auroc_val, '{:.3f}')} on val prompts; above its cutoff {row.cutoff:+.2f} "
            f"are {caught}."
        )


def form(metrics: Metrics) -> str:
    """How well the form of a prompt alone tells the classes apart."""
    found = [
        f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}] on {split} ({row.n_harmful} and {row.n_harmless} prompts)"
        for split, row in metrics.prompts.surface_auroc.items()
        if row and row.value is not None and row.low is not None and row.high is not None
    ]
    what = "length, punctuation, person and the kind of first word"
    return paragraph([f"By {what} alone the classes are told apart with AUROC {listed(found)}."]) if found else ""


RUN: dict[str, Callable[[Metrics], str]] = {
    "setting": setting,
    "verdict": verdict,
    "controls": controls,
    "unsafe": safety,
    "knowledge": capability,
    "ways": estimators,
    "judges": judges,
    "form": form,
}
