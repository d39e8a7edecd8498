"""What the tables of estimators and of losses say: each effect with its interval, and why a number is missing."""

import io

from matplotlib.text import Text
from rich.console import Console

from pipeline.maths.comparisons import Rank
from pipeline.maths.labels import Treatment
from pipeline.maths.paired import PairedChange
from pipeline.maths.statistics import Estimate
from pipeline.names import EQUAL_KL, EQUAL_NORM, OWN_LENGTH
from pipeline.report.figures.estimators import panels
from pipeline.report.tables.estimators import terms_table
from pipeline.report.tables.loss import loss_table
from pipeline.report.tables.wording import under_system
from pipeline.results.choosing import Addition, Effect, Estimator, Win
from pipeline.results.effects import Loss, LossDifference, Systems
from pipeline.results.values import LossChange

RATE = Estimate(0.5, 0.4, 0.6, 100)


def printed(table):
    console = Console(width=400, file=io.StringIO(), color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def effect(value, kl, against=None):
    def near(x):
        return Estimate(x, x - 0.25, x + 0.25, 100)

    return Effect(near(value), near(value + 2.0), Estimate(kl, kl - 0.01, kl + 0.01, 100), against)


def estimator(additions, ablation):
    return Estimator(
        "direction_selected",
        "calibrated",
        {},
        None,
        1,
        1,
        {},
        [],
        None,
        "",
        {},
        [Win(-1, 18, 1.0)],
        ablation,
        additions,
    )


def two():
    own = Addition(**vars(effect(0.4, 0.2)), coefficient=1.0, length=12.0)
    difference = PairedChange(Estimate(-1.25, -1.5, -1.0, 100), 0.001, 0.004, "lower")
    short = Addition(**vars(effect(-0.85, 0.05, difference)), coefficient=1.0, length=3.0)
    none = Estimate(None, None, None, 0, "its KL is 0.1 at 16 and 0.15 at 32 times its own length")
    return {
        "mean_difference": estimator({OWN_LENGTH: own, EQUAL_NORM: own, EQUAL_KL: own}, effect(-3.0, 0.184)),
        "leace": estimator(
            {OWN_LENGTH: short, EQUAL_NORM: short, EQUAL_KL: Addition(none, none, none, None, None, None)},
            effect(-2.0, 0.1, difference),
        ),
    }


def test_each_addition_is_printed_with_its_difference_and_a_missing_one_with_its_reason():
    lines = printed(terms_table(two())).splitlines()
    found = next(line for line in lines if "added, as found" in line and "3" in line.split("│")[3])
    for cell in ("-0.85 [-1.10, -0.60]", "-1.25 [-1.50, -1.00]", "0.004", "0.050 [0.040, 0.060]"):
        assert cell in found
    assert any("equal KL" in line and "its KL is 0.1 at 16" in line for line in lines)
    shown = "\n".join(lines)
    assert "n = 100, whose metric in the unchanged model is -2.00" in shown
    assert "within 1%" in shown


def test_the_figure_says_which_addition_was_not_reached():
    estimators = two()
    additions = {name: row.additions for name, row in estimators.items()}
    rates = {name: {"ablation": RATE, "addition": RATE} for name in additions}
    baselines = {"harmful": RATE, "harmless": RATE}
    own = additions["mean_difference"][OWN_LENGTH]
    figure = panels(rates, baselines, {"ablation": [RATE], "addition": []}, additions, own, "m", "j", "s")
    texts = [found.get_text() for found in figure.findobj(Text)]  # pyright: ignore[reportAttributeAccessIssue]
    assert texts.count("not reached") == 2, "of refusal metric and KL"


def test_the_loss_is_printed_for_every_effect_of_the_direction_and_of_each_control():
    def change(value, rank=None):
        return LossChange(value, value - 0.01, value + 0.01, 50, rank=rank)

    changes = {
        Treatment("ablation"): change(0.02, Rank(1, 19, 0.05)),
        Treatment("export"): change(0.021),
        Treatment("subtraction"): change(0.05),
        Treatment("subtraction", "random_0"): change(-0.003),
        Treatment("addition"): change(0.14),
    }
    losses = {"plain_text": Loss(9, 50, {}, changes, {}, LossDifference())}
    shown = printed(loss_table(losses))
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in shown.splitlines() if line[0] == "│"}
    assert rows == {
        "direction ablated": "+0.020 [+0.010, +0.030], 1 of 20",
        "direction taken out of the weights": "+0.021 [+0.011, +0.031]",
        "direction subtracted": "+0.050 [+0.040, +0.060]",
        "random 0 subtracted": "-0.003 [-0.013, +0.007]",
        "direction added": "+0.140 [+0.130, +0.150]",
    }
    assert "plain text (n = 50)" in shown


def test_the_heading_says_the_system_prompt_of_the_main_evaluation():
    assert under_system(Systems("", True, {}, {})).startswith("without a system prompt")
    assert (
        under_system(Systems("You are kind.", True, {}, {}))
        == 'under the template\'s own system prompt ("You are kind.")'
    )
    assert under_system(Systems("Be brief.", False, {}, {})) == 'under "Be brief."'
