"""Models with a known truth, through every stage in this process: each gets the verdict that it was built for."""

import contextlib
import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.nn.functional import cosine_similarity

from pipeline.artifacts import class_means, records
from pipeline.artifacts.layout import Layout
from pipeline.config.compose import compose
from pipeline.config.place import CONF
from pipeline.config.resolved import load
from pipeline.maths.directions import difference_in_means
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import read_metrics
from pipeline.results.suffix_file import read_suffix
from tests.helpers import planted

STAGES = (
    *("prompts", "sets", "texts", "engine", "refusal_tokens", "activations", "scores", "direction", "controls"),
    *("estimators", "completions", "further", "judge", "export", "loss", "capability", "stability", "invariance"),
    *("suffix", "metrics", "report"),
)
EVERY, NO_ONE = {"low": 0.9, "high": 1.0, "value": 1.0}, {"low": 0.0, "high": 0.1, "value": 0.0}


@dataclass(frozen=True)
class Found:
    """What the pipeline says of a model."""

    layout: Layout
    metrics: Metrics
    report: str

    def direction(self) -> torch.Tensor:
        """The chosen direction, of length one."""
        pinned = self.metrics.provenance.model
        found = records.read_direction(self.layout.direction, self.layout.selection, pinned)
        assert found is not None
        return found.r_hat

    def refused(self, kind: str, effect: str, source: str = "") -> float | None:
        return self.metrics.refusal_score[Label(kind, effect, source)].value

    def candidate(self, layer: int) -> torch.Tensor:
        """The difference in means at the last token."""
        means = class_means.read_means(self.layout.activations, self.metrics.provenance.model)
        return difference_in_means(means["harmful_mean"], means["harmless_mean"])[-1, layer]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Callable[..., Found]:
    """Runs every stage on a model once."""
    kept: dict[str, Found] = {}

    def run(truth: planted.Truth, *overrides: str) -> Found:
        if truth.name not in kept:
            kept[truth.name] = through(tmp_path_factory.mktemp(truth.name), truth, overrides)
        return kept[truth.name]

    return run


def through(folder: Path, truth: planted.Truth, overrides: tuple[str, ...]) -> Found:
    shutil.copytree(CONF, folder / "conf")
    with contextlib.chdir(folder):
        planted.install(Path(), truth)
        layout = Layout(truth.name, "smoke")
        composed = compose(truth.name, "smoke", [*planted.SETTINGS, *planted.LEAN, *overrides], folder / "conf")
        layout.config.parent.mkdir(parents=True)
        layout.config.write_text(OmegaConf.to_yaml(composed))
        config = load(layout.config)
        for name in STAGES:
            getattr(importlib.import_module(f"pipeline.stages.{name}"), name)(config, layout)
    away = Layout(truth.name, "smoke", folder)
    return Found(away, read_metrics(away.metrics), " ".join(away.report.read_text().split()))


def test_one_direction_is_found_and_carries_refusal(measured):
    found = measured(planted.ONE, *planted.SUFFIX)
    metrics = found.metrics
    assert metrics.verdict == "direction_selected"
    assert metrics.selection.chosen is not None
    assert metrics.selection.chosen.layer == planted.WRITES + 1, "the one layer that has it"
    assert float(found.direction() @ planted.direction()) >= 0.99
    others = [abs(cosine_similarity(found.candidate(layer), planted.direction(), 0)) for layer in (1, 3, 4)]
    assert max(others) < 0.2, "so no other layer would have done"
    assert metrics.claim.ablation is not None
    assert metrics.claim.addition is not None
    assert (metrics.claim.ablation.word, metrics.claim.ablation.refused.value) == ("mostly gone", 0)
    assert (metrics.claim.addition.word, metrics.claim.addition.refused.value) == ("mostly induced", 1)
    assert found.refused("harmful", "baseline") == 1
    assert found.refused("harmless", "baseline") == 0
    assert found.refused("harmful", "subtraction") == 0
    for control in ("random_0", "random_1"):
        assert found.refused("harmful", "ablation", control) == 1
        assert found.refused("harmless", "addition", control) == 0
    assert "Refusal is mostly gone under ablation: 0% [0%, 9%] of 40 prompts refused before still are" in found.report
    assert "Refusal is mostly induced by addition: 100% [91%, 100%] of 40 prompts answered before" in found.report


def test_the_export_of_one_direction_is_proved(measured):
    export = measured(planted.ONE, *planted.SUFFIX).metrics.export
    assert (export.exported, export.exact, export.greedy_different) == (True, True, 0)
    assert export.effect_max is not None
    assert export.logit_difference_max is not None
    assert export.logit_difference_max < 1e-4 < 10 < export.effect_max
    assert max(export.max_cosine_after or [1]) < 1e-5 < 0.2 < max(export.max_cosine_before or [0])


def test_a_suffix_that_takes_the_attention_is_traced_to_the_head_that_writes(measured):
    """The planted head looks at the harmful word; the blocking word takes its attention, and nothing is written."""
    found = measured(planted.ONE, *planted.SUFFIX)
    measured_one = read_suffix(found.layout.suffix).measured
    assert measured_one is not None
    analysis, effect = measured_one.analyses["given"], measured_one.analyses["given"].effect
    assert effect.verdict == "suffix_lowers_refusal"
    assert analysis.decomposition.holds
    [head] = analysis.heads
    assert (head.layer, head.head) == (planted.WRITES, planted.DETECTS)
    assert value(effect.attention.instruction.harmful) > 0.99
    assert value(effect.attention.suffix.adversarial) > 0.99
    written = head.written
    assert value(written.harmful) > 0.9 * planted.CAUSE > 0.1 > abs(value(written.adversarial))
    assert value(effect.refusal_score.adversarial) == 0
    assert value(effect.top_heads.share) == pytest.approx(1, abs=0.01)
    assert effect == found.metrics.suffixes["given"]


def value(row: Estimate) -> float:
    assert row.value is not None
    return row.value


def test_a_model_that_answers_everything_does_not_refuse(measured):
    metrics = measured(planted.NONE).metrics
    assert metrics.verdict == "no_refusal_behaviour"
    assert metrics.refusal_score[Label("harmful", "baseline")].value == 0
    assert metrics.claim.ablation is metrics.claim.addition is None
    assert not metrics.export.exported


def test_refusal_through_two_directions_remains_in_part(measured):
    found = measured(planted.TWO)
    metrics = found.metrics
    assert metrics.verdict == "direction_selected"
    spanned = torch.stack([planted.direction(axis) for axis in range(2)])
    first, second = spanned @ found.direction()
    assert first > 0.85 > 0.4 > second > 0.1
    assert first**2 + second**2 > 0.98
    side = metrics.claim.ablation
    assert side is not None
    assert side.word == "remains"
    left = [prompt for prompt, refused in metrics.outcomes[Label("harmful", "ablation")].items() if refused]
    rare = {verb for verb in planted.VERBS["harmful"] if planted.TWO.cause_of(planted.VERBS["harmful"].index(verb))[0]}
    prompts = records.read_prompts(found.layout.prompts("harmful_test"))
    assert {prompt.id for prompt in prompts if rare & set(prompt.instruction.split())} == set(left), (
        "those of the other"
    )
    assert side.refused.value == len(left) / 40
    assert f"Refusal remains under ablation: {len(left) / 40:.0%} [" in found.report
    assert metrics.claim.addition is not None
    assert metrics.claim.addition.word == "mostly induced"


def test_refusal_that_no_mean_shows_remains(measured):
    found = measured(planted.NONLINEAR)
    metrics = found.metrics
    assert metrics.verdict == "no_direction_selected"
    assert found.refused("harmful", "baseline") == 1
    assert metrics.selection.removed is not None
    assert metrics.selection.removed["induce"] == 6, "added to harmless prompts, none makes the model refuse"
    said = metrics.reason.rpartition("refusal remains under ablation: the lowest bypass within the KL threshold ")[2]
    left = int(said.rpartition("leaves ")[2].split("%")[0])
    assert 66 <= left <= 100, "one direction of three, at most"
    assert "refusal remains under ablation" in found.report


def test_a_decoy_that_separates_the_classes_is_not_chosen(measured):
    found = measured(planted.DECOYED)
    decoy, metrics = planted.features()["decoy"], found.metrics
    assert metrics.selection.chosen is not None
    assert float(cosine_similarity(found.candidate(planted.WRITES), decoy, 0)) > 0.99, "it is there"
    assert float(found.candidate(planted.WRITES).norm()) > 1.2 * float(found.candidate(planted.WRITES + 1).norm())
    assert metrics.selection.chosen.layer == planted.WRITES + 1
    assert float(found.direction() @ planted.direction()) >= 0.99
    assert abs(float(found.direction() @ decoy)) < 0.1
    assert found.refused("harmful", "ablation", f"layer_{planted.WRITES}") == 1, "and causes nothing"
    assert metrics.claim.ablation is not None
    assert metrics.claim.ablation.word == "mostly gone"
