"""What is left of refusal where no candidate was chosen."""

from pipeline.maths.selection import Baselines, CandidateScores, Selection


def left_of_gap(candidate: CandidateScores, baselines: Baselines) -> float:
    """Share of the gap between the harmful and the harmless baseline that is left when the candidate is ablated."""
    return (candidate.bypass - baselines.harmless) / (baselines.harmful - baselines.harmless)


def best_rejected(selection: Selection) -> CandidateScores | None:
    """Of the rejected candidates that were measured in full and pass the layer and KL filters: the lowest bypass."""
    rows = [row for name in ("induce", "bypass") for row in selection.removed_by[name]]
    return min(rows, key=lambda row: row.bypass, default=None)


def what_is_left(selection: Selection, baselines: Baselines) -> str:
    """What ablating the best rejected candidate leaves of refusal, by the refusal metric; empty without one.

    Refusal is said to remain where more than half of the gap between the baselines is left.
    """
    best = best_rejected(selection)
    if best is None or baselines.harmful <= baselines.harmless:
        return ""
    left = left_of_gap(best, baselines)
    place = f"position {best.position}, layer {best.layer}"
    said = f"the lowest bypass within the KL threshold ({place}) leaves {left:.0%} of the gap between the baselines"
    return f"refusal remains under ablation: {said}" if left > 0.5 else said
