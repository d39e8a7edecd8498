"""What a reader opens first: a row per condition and judge, and about ten numbers."""

# pyright: reportUnknownMemberType=false
# Pandas' own annotations leave parts open.

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.maths.comparisons import Comparison
from pipeline.maths.evaluation import Rate
from pipeline.maths.labels import BASELINE, Label, Treatment
from pipeline.results.metrics import Metrics

if TYPE_CHECKING:  # imported where a table is made
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

Judged = dict[str, tuple[Mapping[Label, Rate], Mapping[Label, Comparison]]]  # rates and tests, by judge
COLUMNS = (
    *("model", "condition", "prompts", "system", "effect", "source", "measure", "judge"),
    *("value", "low", "high", "n", "rank", "controls", "change", "change_low", "change_high", "p", "p_holm", "verdict"),
)


def rates_table(metrics: Metrics) -> "pd.DataFrame":
    """A row per condition and judge: the share of completions with its 95 % interval, and the paired test.

    `condition` is its name in metrics.json. `measure` is refusal or safety. `change` is the share after minus before,
    against the baseline on the same prompts, with the 95 % interval of the paired change; `p` is McNemar's exact test,
    `p_holm` the same with Holm's correction, none for a control, whose `verdict` is by that interval.
    `rank` is among `controls` random directions, where at least 19 of them answered.
    """
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

    return pd.DataFrame(_rows(metrics), columns=pd.Index(COLUMNS)).astype({"rank": "Int64", "controls": "Int64"})


def _rows(metrics: Metrics) -> Iterator[list[Any]]:
    others: Judged = {judge: (rates, {}) for judge, rates in metrics.other_judges.items()}
    refusal: Judged = {metrics.judge: (metrics.refusal_score, metrics.comparisons), **others}
    safety: Judged = {judge: (found.score, found.comparisons) for judge, found in metrics.safety.items()}
    for measure, judged in (("refusal", refusal), ("safety", safety)):
        for judge, (rates, tests) in judged.items():
            for label in sorted(rates, key=str):
                yield [
                    metrics.model,
                    str(label),
                    *_named(label),
                    measure,
                    judge,
                    *_numbers(rates[label], tests.get(label)),
                ]


def _named(label: Label) -> list[str]:
    return [label.kind, label.system, label.effect, label.source or ("" if label.effect == BASELINE else "direction")]


def _numbers(rate: Rate, test: Comparison | None) -> list[Any]:
    rank = [rate.rank.rank, rate.rank.n] if rate.rank else [None, None]
    paired = [test.change.value, test.change.low, test.change.high, test.p, test.p_holm, test.verdict] if test else []
    return [rate.value, rate.low, rate.high, rate.n, *rank, *(paired or [None] * 6)]


def headline(metrics: Metrics) -> dict[str, float | int]:
    """The numbers that `dvc metrics show` prints; those that were not measured are left out."""
    main = (("harmful", BASELINE), ("harmful", "ablation"), ("harmless", BASELINE), ("harmless", "addition"))
    scores = {f"refused_{kind}_{effect}": metrics.refusal_score.get(Label(kind, effect)) for kind, effect in main}
    numbers: dict[str, Any] = {name: rate.value for name, rate in scores.items() if rate}
    if metrics.claim.ablation and metrics.claim.ablation.refused.n:
        numbers["still_refused_under_ablation"] = metrics.claim.ablation.refused.value
    for judge, safety in metrics.safety.items():
        for effect in (BASELINE, "ablation"):
            if rate := safety.score.get(Label("harmful", effect)):
                numbers[f"safe_harmful_{effect}_{judge}"] = rate.value
    if metrics.test_scores:
        numbers["kl_nats"] = metrics.test_scores.kl.direction.value
    if (loss := metrics.loss.get("plain_text")) and (change := loss.change.get(Treatment("ablation"))):
        numbers["loss_change_nats_per_token"] = change.value
    if metrics.export.exported:
        numbers["export_logit_difference"] = metrics.export.logit_difference_max
        numbers["export_answers_that_differ"] = metrics.export.greedy_different
    return numbers
