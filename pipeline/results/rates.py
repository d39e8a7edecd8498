"""From outcomes to the rates of metrics."""

from collections.abc import Mapping
from dataclasses import asdict

from pipeline.maths import evaluation
from pipeline.maths.comparisons import Outcomes
from pipeline.maths.labels import Label
from pipeline.results.values import Rate


def rates(outcomes: Mapping[Label, Outcomes]) -> dict[Label, Rate]:
    """Share with interval of every condition that has a verdict; the chosen direction's have their rank."""
    return {label: Rate(**asdict(found), rank=rank) for label, (found, rank) in evaluation.rates(outcomes).items()}
