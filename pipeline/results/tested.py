"""What estimators' findings do to the test prompts: means, and differences from the difference in means."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.artifacts.kinds import TestedRows
from pipeline.maths.paired import PairedChange, holm, paired
from pipeline.maths.statistics import Estimate, mean
from pipeline.names import MEAN_DIFFERENCE, OWN_LENGTH
from pipeline.results.choosing import Addition, Effect


def tested(rows: Mapping[str, TestedRows], seed: int) -> dict[str, dict[str, Any]]:
    """Effects on test prompts by estimator; Holm's correction is over all comparisons with the difference in means."""
    against = _against_mean_difference(rows, seed)
    found: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        harmful, harmless = row["unchanged"]["harmful"], row["unchanged"]["harmless"]
        assert all(len(each["kl"]) in (0, len(harmless)) for each in (row, *row["added"].values())), name
        additions: dict[str, Addition] = {}
        for terms, each in row["added"].items():
            effect = _effect(harmless, each["metric"], each["kl"], against.get((name, terms)), each["note"])
            additions[terms] = Addition(**vars(effect), coefficient=each["coefficient"], length=each["length"])
        ablation = _effect(harmful, row["bypass"], row["kl"], against.get((name, "ablation")))
        found[name] = {"ablation": ablation, "additions": additions}
    return found


def _against_mean_difference(rows: Mapping[str, TestedRows], seed: int) -> dict[tuple[str, str], PairedChange]:
    """Differences of the refusal metric by estimator and effect, additions by their terms."""
    if MEAN_DIFFERENCE not in rows:
        return {}
    family: dict[tuple[str, str], PairedChange] = {}
    reference = rows[MEAN_DIFFERENCE]
    own = reference["added"][OWN_LENGTH]["metric"]
    for name, row in rows.items():
        if name != MEAN_DIFFERENCE:
            family[name, "ablation"] = paired(reference["bypass"], row["bypass"], seed)
            added = {terms: each["metric"] for terms, each in row["added"].items() if each["metric"]}
            family |= {(name, terms): paired(own, metric, seed) for terms, metric in added.items()}
    return holm(family)


def _effect(
    unchanged: Sequence[float],
    metric: Sequence[float],
    kl: Sequence[float],
    against: PairedChange | None,
    note: str = "",
) -> Effect:
    if note:
        none = Estimate(None, None, None, 0, note)
        return Effect(none, none, none, None)
    change = [after - before for before, after in zip(unchanged, metric, strict=True)]
    return Effect(mean(metric), mean(change), mean(kl, least=0.0), against)
