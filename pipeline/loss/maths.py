"""Cross-entropy per token of a set of documents, its change under each intervention, and the export's error."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.maths.comparisons import rank, smallest_mean_change
from pipeline.maths.labels import BASELINE, Treatment, is_null
from pipeline.maths.statistics import linearised, ratio

if TYPE_CHECKING:  # loading torch takes a second
    from pipeline.maths.interventions import Intervention

EXPORT = "export"  # the condition of the orthogonalised weights
MEASURED = ("ablation", "subtraction", "addition")


@dataclass(frozen=True)
class ExportDifference:
    """Loss per token of single documents: the export's against live ablation's, and ablation's against the baseline's.

    The largest absolute differences over documents, nats per token: what rounding leaves, and the effect itself.
    """

    max_difference: float
    max_effect: float


def treatments(sources: "Mapping[str, Mapping[str, Intervention]]") -> "dict[str, Intervention]":
    """The unchanged model, and the chosen direction and its controls: `effect` and `effect.control`."""
    pairs = [(source, effect) for source in sources for effect in MEASURED]
    return {BASELINE: None, **{str(Treatment(effect, source)): sources[source][effect] for source, effect in pairs}}


def whole_summary(losses: Mapping[str, Sequence[float]], counts: Sequence[int], missing: str) -> dict[str, Any]:
    """`summary`, and the export's error, or `missing`, why there is no export."""
    export = {"reason": missing} if missing else asdict(agreement(losses, counts))
    return {**summary(losses, counts), "export": export}


def summary(losses: Mapping[str, Sequence[float]], counts: Sequence[int]) -> dict[str, Any]:
    """Loss per token of each condition and its paired change from the baseline, with intervals over documents.

    `losses`: condition -> summed loss of each document, nats; `counts`: tokens of each. The mean is over
    tokens, as in the paper (section 4.3). `detectable`: the smallest change that these documents show with
    80 % power; `rank`: the direction's rise in loss among its null controls', where these are enough for one.
    """
    changes = {
        name: [after - before for before, after in zip(losses[BASELINE], rows, strict=True)]
        for name, rows in losses.items()
        if name != BASELINE
    }
    return {
        "n_tokens": sum(counts),
        "n_documents": len(counts),
        "loss": {name: asdict(ratio(rows, counts)) for name, rows in losses.items()},
        "change": {
            name: {
                **asdict(ratio(rows, counts)),
                "detectable": smallest_mean_change(linearised(rows, counts)),
                "rank": _rank(name, changes),
            }
            for name, rows in changes.items()
        },
    }


def agreement(losses: Mapping[str, Sequence[float]], counts: Sequence[int]) -> ExportDifference:
    """The export against live ablation, document by document."""
    return ExportDifference(
        _largest(losses[EXPORT], losses["ablation"], counts), _largest(losses["ablation"], losses[BASELINE], counts)
    )


def _largest(first: Sequence[float], second: Sequence[float], counts: Sequence[int]) -> float:
    return max(abs(a - b) / count for a, b, count in zip(first, second, counts, strict=True))


def _rank(name: str, changes: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    """Place of the direction's rise in loss among its null controls'; None for a control, and among too few."""
    if name not in MEASURED:
        return None
    # All conditions have the same tokens, so sums are in the order of means.
    others = {key: Treatment.parse(key) for key in changes if key != name}
    nulls = [key for key, other in others.items() if other.effect == name and is_null(other.source)]
    place = rank(sum(changes[name]), [sum(changes[key]) for key in nulls])
    return asdict(place) if place else None
