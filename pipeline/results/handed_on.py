"""What stages hand on to the metrics, where it is more exact than the type that the metrics have of it."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from pipeline.artifacts.kinds import Audit, SetsAudit
from pipeline.artifacts.layout import Layout
from pipeline.disk import shape
from pipeline.maths.statistics import Estimate
from pipeline.results.values import LossChange


class Difference(TypedDict):
    """What rounding leaves of the export's loss, and the effect itself; or why there is no export."""

    max_difference: NotRequired[float]
    max_effect: NotRequired[float]
    reason: NotRequired[str]


class LossRow(TypedDict):
    """Cross-entropy of one set of texts."""

    n_tokens: int
    n_documents: int
    loss: dict[str, Estimate]
    change: dict[str, LossChange]
    sources: dict[str, int]
    export: Difference


class NotExported(TypedDict):
    """Why there is no export."""

    exported: Literal[False]
    reason: str


class Exported(TypedDict):
    """The export against live ablation."""

    exported: Literal[True]
    dtype: str
    exact: bool
    n_prompts: int
    n_tokens: int
    logit_difference_max: float
    logit_difference_mean: float
    effect_max: float
    greedy_equal: int
    greedy_ties: int
    greedy_different: int
    max_cosine_before: list[float]
    max_cosine_after: list[float]
    n_writers: int
    n_edited: int
    untied: bool


def prompts(layout: Layout) -> dict[str, Any]:
    """The prompts of the metrics, of those that the direction was found on and of the further sets."""
    audit, further = shape.read_record(layout.audit, Audit), shape.read_record(layout.sets_audit, SetsAudit)
    hashes = audit["hashes"] | further["hashes"]
    return {"hashes": hashes, "surface_auroc": audit["surface_auroc"], "shared_with_fitted": further["overlaps"]}
