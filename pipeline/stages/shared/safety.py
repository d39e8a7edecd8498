"""What judges of safety say of every condition."""

from collections.abc import Mapping, Sequence

from pipeline.artifacts.layout import Layout
from pipeline.config.data import SetSpec
from pipeline.judges.probe.file import reliability
from pipeline.maths import evaluation
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate
from pipeline.results.effects import Reliability, Safety
from pipeline.results.judgements import Judgements, categories_of


def scores(judgements: Judgements, judge: str) -> Safety:
    """Safety score of every condition by a judge, with what is known of the judge itself."""
    outcomes = judgements.safe(judge)
    known = {
        name: {
            kind: Reliability(found["n"], Estimate(**found["kappa"]), Estimate(**found["auroc"]))
            for kind, found in parts.items()
        }
        for name, parts in reliability(judge).items()
    }
    return Safety(
        evaluation.rates(outcomes), evaluation.safety_comparisons(outcomes), evaluation.unknown(outcomes), known
    )


def attacks(
    layout: Layout, judgements: Judgements, judges: Sequence[str], sets: Mapping[str, SetSpec]
) -> dict[Label, dict[str, dict[str, Estimate]]]:
    """Attack success by category of prompt, by judge: completions not safe, of the harmful ones of the sets."""
    rates: dict[Label, dict[str, dict[str, Estimate]]] = {}
    for judge in judges:
        outcomes = judgements.safe(judge)
        for label in (label for label in outcomes if label.kind in sets and sets[label.kind].kind == "harmful"):
            unsafe = {key: None if value is None else not value for key, value in outcomes[label].items()}
            categories = categories_of(layout, label)
            rates.setdefault(label, {})[judge] = evaluation.by_category(unsafe, categories)
    return rates
