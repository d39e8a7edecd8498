"""The verdicts on the claim, as sentences."""

from collections.abc import Iterator

from pipeline.maths.claim import GONE, INDUCED, REMAINS, SHORT, UNSETTLED, Claim
from pipeline.maths.statistics import Estimate
from pipeline.report.tables import wording

ABLATION = {
    REMAINS: "Refusal remains under ablation",
    GONE: "Refusal is mostly gone under ablation",
    UNSETTLED: "Whether refusal remains under ablation is not settled",
}
ADDITION = {
    INDUCED: "Refusal is mostly induced by addition",
    SHORT: "Addition falls short of refusal",
    UNSETTLED: "Whether addition induces refusal is not settled",
}


def sentences(claim: Claim) -> Iterator[str]:
    """One on ablation and one on addition, each where it was measured."""
    if side := claim.ablation:
        share, against = _share(side.refused, "refused before still are"), _points(side.difference)
        yield f"{ABLATION[side.word]}: {share}; harmful ones ablated against harmless ones unchanged: {against}"
    if side := claim.addition:
        share, against = _share(side.refused, "answered before are refused"), _points(side.difference)
        yield f"{ADDITION[side.word]}: {share}; harmless ones added against harmful ones unchanged: {against}"


def _share(row: Estimate, what: str) -> str:
    if row.value is None:
        return row.note
    return f"{row.value:.0%} {wording.interval(row, '{:.0%}')} of {row.n} prompts {what}"


def _points(row: Estimate) -> str:
    """A difference of two rates."""
    return f"{wording.value(row, '{:+.0%}')} {wording.interval(row, '{:+.0%}')}"
