"""Controls as readers see them: their paired change with its interval and p as it is, in table and figure."""

import pytest

from pipeline.maths import evaluation
from pipeline.maths.evaluation import rates
from pipeline.maths.labels import Label
from pipeline.report.figures.claim import score_bars
from pipeline.report.tables import wording

BASELINE, ABLATED = Label("harmful", "baseline"), Label("harmful", "ablation")
RANDOM = Label("harmful", "ablation", "random_0")


def verdicts(refused):
    return {str(i): i < refused for i in range(100)}


OUTCOMES = {BASELINE: verdicts(50), ABLATED: verdicts(2), RANDOM: verdicts(43)}


def test_a_control_has_p_and_an_effect_has_both():
    found = evaluation.comparisons(OUTCOMES)
    change, p, corrected, verdict = wording.test(found[RANDOM])
    assert (change, p, corrected, verdict) == ("-7.0% [-11.9%, -2.0%]", "0.016", "", "lower")
    assert wording.test(found[ABLATED])[2] != ""
    assert wording.test(None) == ("", "", "", "")
    few = evaluation.comparisons({BASELINE: dict.fromkeys("abc", True), RANDOM: dict.fromkeys("abc", False)})
    assert wording.test(few[RANDOM])[1:] == ("-", "-", "not testable")
    assert len(wording.TESTED) == len(wording.test(None))


def test_the_figure_puts_a_controls_change_on_its_baseline():
    found = evaluation.comparisons(OUTCOMES)
    figure = score_bars(rates(OUTCOMES), found, "Refusal", "refused", "judge", "title", "")
    ends = [segment for axis in figure.axes for bar in axis.collections for segment in bar.get_segments()]  # type: ignore[attr-defined]
    drawn = [(float(low), float(high)) for (_, low), (_, high) in ends]
    change = found[RANDOM].change
    assert change.low is not None
    assert change.high is not None
    assert (0.5 + change.low, 0.5 + change.high) in [(pytest.approx(low), pytest.approx(high)) for low, high in drawn]
    assert 0.5 + change.high < 0.5, "the baseline's line is left out: it moved"
