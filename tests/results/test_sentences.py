"""Sentences of the pages follow from the numbers: where these say otherwise, so do the words."""

from dataclasses import replace

import pytest

from pipeline.disk.files import read_json, write_json
from pipeline.maths.claim import GONE, INDUCED, REMAINS, UNSETTLED
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate
from pipeline.report import beside as tables
from pipeline.report import readme
from pipeline.report.sentences import beside, repeated, run, speed, suffix
from pipeline.report.sentences.words import WIDTH, listed, paragraph, percent, with_interval
from pipeline.report.tables import verdict as told
from pipeline.results.metrics_file import read_metrics
from pipeline.results.repeated import place, read_repeated
from tests.conftest import ROOT
from tests.helpers.committed import committed


@pytest.fixture(scope="module")
def metrics():
    return read_metrics(committed("standard").metrics)


def compared(metrics, labels, **changes):
    tests = {label: replace(test, **changes) for label, test in metrics.comparisons.items() if label in labels}
    return replace(metrics, comparisons={**metrics.comparisons, **tests})


def test_the_verdict_is_that_of_the_claim(metrics):
    claim = metrics.claim
    settled = replace(
        claim, ablation=replace(claim.ablation, word=GONE), addition=replace(claim.addition, word=INDUCED)
    )
    assert run.verdict(replace(metrics, claim=settled)).startswith("In this model one direction decides")
    for word in (REMAINS, UNSETTLED):
        other = replace(settled, ablation=replace(claim.ablation, word=word))
        words = " ".join(run.verdict(replace(metrics, claim=other)).split())
        assert words.startswith("This does not show that in this model one direction")
        assert told.ABLATION[word] in words


def test_controls_are_shown_with_their_paired_changes(metrics):
    made = tables.controlled(metrics)
    label = Label("harmful", "ablation", "random_0")
    p = metrics.comparisons[label].p
    assert f"| random 0 | {with_interval(metrics.comparisons[label].change, '{:+.0%}')}, p {p:.2g} |" in made
    nulls = tables.nulls(metrics)
    kinds = {row.kind for row in metrics.controls.values()}
    assert [kind for kind, words in tables.KINDS.items() if words in nulls] == [k for k in tables.KINDS if k in kinds]


def test_every_cost_is_shown(metrics):
    made = tables.losses(metrics)
    for effect in ("ablated", "subtracted", "added"):
        assert made.count(f"| {effect} |") == len(metrics.loss)


def test_false_refusals_are_spoken_of_where_they_fall(metrics):
    labels = [Label(kind, "ablation") for kind in run.FALSE_REFUSALS]
    assert "false refusals as well" in " ".join(run.verdict(compared(metrics, labels, verdict="lower")).split())
    assert "false refusals" not in " ".join(run.verdict(compared(metrics, labels, verdict="higher")).split())


def test_a_control_that_moves_is_named_with_its_interval(metrics):
    label = Label("harmful", "ablation", "random_0")
    random = [one for one in metrics.comparisons if one.source.startswith("random") and one.is_main]
    still = compared(metrics, random, change=Estimate(0.01, -0.02, 0.04, 100))
    words = " ".join(run.controls(still).split())
    assert (
        f"No random direction is shown to change refusal: 0 lies in the interval of all {len(random)} changes" in words
    )
    moved = " ".join(run.controls(compared(still, [label], change=Estimate(-0.3, -0.4, -0.2, 100))).split())
    assert f"Of {len(random)} changes under a random direction, 1 has an interval without 0" in moved
    assert "harmful, random 0 ablated -30 points [-40, -20]" in moved


def test_no_change_of_a_task_is_said_only_where_none_is_shown(metrics):
    def with_verdict(verdict):
        tasks = {
            name: replace(task, change={done: replace(test, verdict=verdict) for done, test in task.change.items()})
            for name, task in metrics.capability.tasks.items()
        }
        return run.capability(replace(metrics, capability=replace(metrics.capability, tasks=tasks)))

    assert with_verdict("no difference shown").startswith("No change is shown;")
    [name, *_] = metrics.capability.tasks
    assert with_verdict("lower").startswith(f"Changed: direction ablated on {name} (")


def test_estimators_that_do_not_differ_are_named(metrics):
    def with_verdicts(leace):
        verdicts = {name: "lower" for name in metrics.estimators} | {"leace": leace}
        found = {
            name: replace(
                one,
                against_mean_difference={
                    effect: replace(test, verdict=verdicts[name])
                    for effect, test in one.against_mean_difference.items()
                },
            )
            for name, one in metrics.estimators.items()
        }
        return " ".join(run.estimators(replace(metrics, estimators=found)).split())

    assert "Each of 6 differences" in with_verdicts("lower")
    same = with_verdicts("no difference shown")
    assert "Of 6 differences from the difference in means these are not shown: leace ablated and leace added." in same
    assert "Each of" not in same


def test_effects_on_further_sets_that_are_not_shown_are_named(metrics):
    further = [one for one in metrics.comparisons if (one.kind, one.system) in readme.FURTHER and not one.source]
    every = compared(metrics, further, verdict="lower")
    assert f"Every one of {len(further)} effects differs" in run.further(every, readme.FURTHER)
    words = run.further(
        compared(every, [Label("borderline", "ablation")], verdict="no difference shown"), readme.FURTHER
    )
    assert "these do not differ from their baseline: borderline, direction ablated." in " ".join(words.split())


def test_how_sure_the_margin_is_follows_from_its_interval():
    record = read_json(committed("standard").stability)
    for low, unsure in ((-0.01, True), (0.01, False)):
        record["margins"]["winner"]["kl"] |= {"low": low, "value": 0.02}
        assert ("cannot say which side" in " ".join(beside.stability(record).split())) == unsure


def test_the_learning_curve_says_how_many_prompts_are_enough():
    record = read_json(committed("standard").stability)
    record["baselines"]["harmful"] = 0.0
    every = {"bypass": -1.0, "n": None}
    enough = [every, *({"bypass": -share, "n": n} for n, share in ((4, 0.5), (8, 0.95), (8, 0.92), (16, 0.99)))]
    words = " ".join(beside.stability(record | {"learning_curve": enough}).split())
    assert "From 8 train prompts a class on, every direction drawn (2 of each size)" in words
    assert "by at least 92% of what all of them do" in words
    never = [every, {"bypass": -0.5, "n": 4}, {"bypass": -0.6, "n": 4}]
    words = " ".join(beside.stability(record | {"learning_curve": never}).split())
    assert "Directions of 4 train prompts a class lower the refusal metric under ablation by 50% to 60%" in words


def test_nothing_is_said_of_a_learning_curve_that_was_not_drawn():
    record = read_json(committed("standard").stability) | {"learning_curve": []}
    assert "train prompts a class" not in " ".join(beside.stability(record).split())


def test_changed_verdicts_are_counted():
    record = read_json(committed("standard").invariance)
    for row in record["variants"].values():
        row["verdicts"]["value"] = 0.0
    assert "No verdict changes." in beside.invariance(record)
    record["variants"]["float32"]["verdicts"]["value"] = 2 / record["variants"]["float32"]["verdicts"]["n"]
    assert "2 verdicts change." in beside.invariance(record)
    assert beside.invariance({"provenance": {}}) == ""


def test_a_suffix_that_was_not_measured_is_said_so():
    assert suffix.suffixes({}) == suffix.NONE


@pytest.fixture(scope="module")
def effect():
    return read_metrics(committed("quick-suffixes").metrics).suffixes["affirmative"]


def test_a_suffix_lowers_refusal_where_fewer_answers_are_refused(effect):
    score, test = effect.refusal_score, effect.refusal_score.adversarial_against_none
    assert "**The suffix lowers refusal**" in suffix.suffixes({"affirmative": effect})
    unshown = replace(score, adversarial_against_none=replace(test, verdict="no difference shown"))
    words = " ".join(suffix.suffixes({"affirmative": replace(effect, refusal_score=unshown)}).split())
    assert "**The suffix lowers the refusal metric; that fewer answers are refused is not shown**" in words
    without = replace(effect, verdict="suffix_does_not_lower_refusal")
    assert "**The suffix does not lower refusal**" in suffix.suffixes({"affirmative": without})


def test_what_returns_is_held_against_the_largest_of_random_parts(effect):
    more = "not shown to be more than random heads of the same layers give"
    assert more not in " ".join(suffix.suffixes({"affirmative": effect}).split())
    low = effect.top_heads.share.low
    reached = replace(effect.top_heads, controls=[replace(effect.top_heads.controls[0], value=low)])
    words = " ".join(suffix.suffixes({"affirmative": replace(effect, top_heads=reached)}).split())
    assert f"(random heads of the same layers, 1 draws: at most {percent(low)}), which is {more}" in words


def test_seeds_that_differ_less_than_sampling_gives_have_no_share_of_zero_for_sure():
    found = read_repeated(place("qwen2_5_coder_0_5b", ROOT))
    label = Label("harmful", "baseline")
    row = found.seeds.refusal_score[label]
    assert row.between is not None
    none = replace(row.between.share, value=0.0, low=0.0, high=0.0)
    changed = replace(row, between=replace(row.between, share=none))
    seeds = replace(found.seeds, refusal_score={label: changed})
    assert "none: less than sampling gives" in repeated.repeated(replace(found, seeds=seeds))
    assert "0% [0%, 0%]" not in repeated.repeated(found)


def test_speed_says_that_there_is_no_benchmark_or_shows_it(tmp_path):
    assert speed.speed(tmp_path) == speed.NONE
    rows = [
        {
            "section": "s",
            "name": "one / other",
            "value": 0.123456,
            "unit": "of the time",
            "bound": 0.2,
            "at_least": False,
        },
        {"section": "s", "name": "rate", "value": 2.0, "unit": "times", "bound": None, "at_least": False},
    ]
    record = {
        "model": "m",
        "on": "float32-cpu",
        "repeats": 3,
        "machine": {"processor": "P", "threads": 2},
        "rows": rows,
    }
    write_json(tmp_path / "outputs/speed/m-float32.json", record)
    other = {**record, "on": "bfloat16-cpu", "rows": rows[1:]}
    write_json(tmp_path / "outputs/speed/m-bfloat16.json", other)
    made = speed.speed(tmp_path)
    assert made.startswith("Measured on P, 2 threads, medians of 3 rounds.\n")
    assert "| s: one / other |  | 0.123 of the time | at most 0.2 |" in made
    assert "| s: rate | 2 times | 2 times |  |" in made


def test_paragraphs_are_as_wide_as_a_page_and_never_say_nothing():
    assert paragraph(["", ""]) == ""
    assert max(map(len, paragraph(["word " * 100]).splitlines())) <= WIDTH
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a"]) == "a"
    assert with_interval(Estimate(0.5, None, None, 9, "9 rows")) == "50% (9 rows)"
    assert with_interval(Estimate(None, None, None, 0, "no rows")) == "none (no rows)"
    assert [percent(value) for value in (-0.001, -0.05, 0.5, None)] == ["0%", "-5%", "50%", "-"]


def test_what_is_kept_of_a_benchmark_is_ratios():
    from pipeline.bench.timing import Row, machine

    units = {"s": False, "MiB": False, "tokens/s": False, "GFLOP/s": False, "": False}
    units |= {"of the time": True, "times": True, "nats": True, "+- 0.10": True}
    assert {unit: Row("s", "n", 1.0, unit).is_ratio for unit in units} == units
    assert machine()["threads"] >= 1
