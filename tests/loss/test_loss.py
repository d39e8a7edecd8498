"""Loss per token against Hugging Face's own, its intervals, and the export against live ablation."""

import json
import math
import re

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch.testing import assert_close

from pipeline.config.compose import compose
from pipeline.config.data import TextSpec
from pipeline.config.place import CONF
from pipeline.errors import UserError
from pipeline.export.model import surgery
from pipeline.loss import maths as losses
from pipeline.loss import model as loss
from pipeline.loss.model import Passage, passage_losses
from pipeline.loss.passages import passages as sets_of_passages
from pipeline.loss.texts import draw
from pipeline.maths.comparisons import smallest_mean_change
from pipeline.maths.experiment import interventions
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation
from pipeline.maths.statistics import LEAST_FOR_INTERVAL, linearised, mean, ratio
from pipeline.model.chat import chat
from pipeline.model.passes.intervene import intervene
from pipeline.prompts.prompt import Text
from pipeline.sources import rows
from tests.conftest import INSTRUCTIONS

ANSWERS = ["the dough swells because yeast makes gas", "Paris", "red, orange, yellow, ochre and rust", "why", "yes!"]
COMMIT = "a" * 40


@pytest.fixture
def passages(model):
    answered = loss.answers(model, list(zip(INSTRUCTIONS, ANSWERS, strict=True)), 20)
    return [*answered, *loss.documents(model, INSTRUCTIONS, 12)]


@torch.inference_mode()
def hf_loss(model, passage):
    """Hugging Face's own loss of one passage alone, summed: labels of -100 do not count."""
    ids = torch.tensor([[*passage.context, *passage.targets]])
    labels = ids.clone()
    labels[:, : len(passage.context)] = -100
    return float(model.hf(input_ids=ids, labels=labels, use_cache=False).loss.double()) * passage.n_targets


@pytest.mark.parametrize("max_tokens", [1, 60, 10_000])
def test_losses_equal_hugging_faces_own_under_every_intervention(model, passages, direction, max_tokens):
    sums = {}
    for intervention in (None, DirectionalAblation(direction), ActivationAddition(direction)):
        with intervene(model, intervention):
            found = passage_losses(model, passages, max_tokens)
            expected = [hf_loss(model, passage) for passage in passages]
        # A float32 forward of four layers: some hundred roundings of values of order one, per token.
        assert_close(found, expected, atol=2e-5, rtol=2e-6)
        sums[type(intervention).__name__] = found
    for name in ("DirectionalAblation", "ActivationAddition"):
        assert max(abs(a - b) for a, b in zip(sums["NoneType"], sums[name], strict=True)) > 0.01


def test_padding_and_what_pads_change_nothing(model, passages, monkeypatch):
    lengths = {len(passage.inputs) for passage in passages}
    assert len(lengths) > 3, "a batch has padding"
    together = passage_losses(model, passages, 10_000)
    pad = chat.pad_left
    monkeypatch.setattr(chat, "pad_left", lambda rows, pad_id: pad(rows, pad_id + 1, extra=7))
    assert_close(passage_losses(model, passages, 10_000), together, atol=2e-5, rtol=2e-6)


def test_a_set_that_is_not_wanted_is_left_out(model):
    plain = [Text("id", "", "one two three four", "source", "licence")]
    assert sets_of_passages(model, plain, [], {}, 20, 20).keys() == {"plain_text"}
    assert sets_of_passages(model, [], [], {}, 20, 20) == {}


def test_only_the_answer_counts_and_long_ones_are_cut(model):
    [passage] = loss.answers(model, [("hello", "one two three four")], 3)
    assert list(passage.context) == model.encode(["hello"])[0]
    assert list(passage.targets) == chat.encode_plain(model.tokenizer, ["one two three four"])[0][:3]
    assert loss.answers(model, [("hello", "")], 3) == []


def test_a_document_begins_with_the_tokenizers_own_bos(model):
    [passage] = loss.documents(model, ["one two three", "", "x"], 4)
    whole = chat.encode_plain(model.tokenizer, ["one two three"])[0]
    assert [*passage.context, *passage.targets] == whole[:4]
    bos = model.tokenizer.convert_ids_to_tokens(7)
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 7)])
    [x] = chat.encode_plain(model.tokenizer, ["x"])[0]
    assert loss.documents(model, ["x"], 4) == [Passage((7,), (x,))]
    assert loss.answers(model, [("hello", "x")], 4)[0].targets == (x,), "an answer has none"


def test_the_orthogonalised_model_equals_live_ablation_document_by_document(model, passages, direction):
    counts = [passage.n_targets for passage in passages]
    found = {"baseline": passage_losses(model, passages, 60)}
    with intervene(model, DirectionalAblation(direction)):
        found["ablation"] = passage_losses(model, passages, 60)
    assert surgery.is_editable(model)
    surgery.untie(model)
    surgery.orthogonalize_weights(model, direction)
    found["export"] = passage_losses(model, passages, 60)
    agreement = losses.agreement(found, counts)
    assert agreement.max_effect > 0.01
    assert agreement.max_difference < 2e-5


def test_agreement_by_hand():
    found = {"baseline": [1.0, 8.0], "ablation": [3.0, 8.0], "export": [3.0, 6.0]}
    assert losses.agreement(found, [2, 4]) == losses.ExportDifference(max_difference=0.5, max_effect=1.0)


# Intervals


def test_a_ratio_is_a_mean_over_tokens_not_over_documents():
    sums, counts = [1.0] * 18 + [100.0, 50.0], [1] * 18 + [10, 10]
    assert ratio(sums, counts).value == pytest.approx(168 / 38)
    assert mean([total / count for total, count in zip(sums, counts, strict=True)]).value == pytest.approx(33 / 20)
    with_equal_counts = ratio(sums, [1] * 20)
    plain = mean(sums)
    assert (with_equal_counts.value, with_equal_counts.n) == (plain.value, plain.n)
    assert with_equal_counts.low == pytest.approx(plain.low)
    assert with_equal_counts.high == pytest.approx(plain.high)


def test_the_interval_of_a_ratio_is_that_of_resampled_documents():
    generator = np.random.default_rng(5)
    counts = generator.integers(5, 200, 60)
    sums = counts * generator.gamma(4, 0.8, 60)
    found = ratio(sums.tolist(), counts.tolist())
    picks = np.random.default_rng(99).integers(0, 60, (20_000, 60))
    low, high = np.quantile(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.06)
    assert found.high == pytest.approx(high, abs=0.06)
    rows = linearised(sums.tolist(), counts.tolist())
    assert np.mean(rows) == pytest.approx(found.value)
    spread = np.std(rows, ddof=1) / math.sqrt(60)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.05)


def test_ratio_intervals_hold_the_truth_about_as_often_as_they_say():
    generator, held = np.random.default_rng(0), 0
    for _ in range(300):
        counts = generator.integers(20, 200, 50)
        sums = counts * generator.normal(3.0, 0.5, 50)
        held += ratio(sums.tolist(), counts.tolist()).holds(3.0)
    assert 0.90 <= held / 300 <= 0.975


def test_too_few_or_equal_documents_have_no_interval():
    few = ratio([float(n) for n in range(1, LEAST_FOR_INTERVAL)], [2] * (LEAST_FOR_INTERVAL - 1))
    assert (few.low, few.note) == (None, "14 rows: from 0.5 to 7"), "nats per token of single documents"
    assert "all rows are equal" in ratio([2.0 * n for n in range(1, 20)], list(range(1, 20))).note
    for sums, counts in (([], []), ([1.0], [0]), ([math.nan], [1]), ([1.0], [1, 2])):
        with pytest.raises(ValueError, match="a ratio needs"):
            ratio(sums, counts)


def test_the_summary_pairs_documents_and_ranks_the_direction_among_enough_controls():
    counts = list(range(1, 17))
    found = {
        "baseline": [3.0 * count for count in counts],
        "subtraction": [3.0 * count + 0.1 * (count % 3) for count in counts],
        **{f"subtraction.random_{index}": [3.0 * count for count in counts] for index in range(18)},
        "subtraction.shuffled_0": [3.0 * count + 1 for count in counts],
        "subtraction.layer_2": [9.0 * count for count in counts],
        "export": [3.0 * count for count in counts],
    }
    summary = losses.summary(found, counts)
    assert (summary["n_tokens"], summary["n_documents"]) == (136, 16)
    assert summary["loss"]["baseline"]["value"] == pytest.approx(3)
    change = summary["change"]["subtraction"]
    assert change["value"] == pytest.approx(sum(0.1 * (count % 3) for count in counts) / 136)
    assert change["low"] < change["value"] < change["high"]
    assert change["rank"] == {"rank": 2, "n": 19, "p": pytest.approx(0.1)}
    rises = [0.1 * (count % 3) for count in counts]
    assert change["detectable"] == pytest.approx(smallest_mean_change(linearised(rises, counts)))
    assert summary["change"]["export"]["rank"] is None
    assert summary["change"]["subtraction.random_0"]["rank"] is None
    del found["subtraction.random_0"]
    assert losses.summary(found, counts)["change"]["subtraction"]["rank"] is None, "18 cannot say 0.05"


def test_the_loss_is_measured_under_every_effect_of_the_direction_and_its_controls(direction):
    found = losses.treatments({source: interventions(direction, 1.0) for source in ("", "random_0")})
    effects = ("ablation", "subtraction", "addition")
    assert list(found) == ["baseline", *effects, *(f"{effect}.random_0" for effect in effects)]
    subtraction, addition = found["subtraction"], found["addition"]
    assert isinstance(subtraction, ActivationAddition)
    assert isinstance(addition, ActivationAddition)
    assert subtraction.coefficient == -addition.coefficient != 0


# Texts


def no_stream(spec):
    raise AssertionError(f"{spec.name} is not streamed")


def local(spec):
    from pathlib import Path

    return Path(spec.file)


def test_documents_are_found_by_their_pattern_and_short_ones_left_out(tmp_path):
    path = tmp_path / "wiki.utf8"
    path.write_text(
        '<doc id="1">\nA\n\nfirst text\n</doc>\n<doc id="2">\nB\n</doc>\n<doc id="3">\nC\n\nthird one\n</doc>\n'
    )
    spec = TextSpec(file=str(path), source="wiki", document=r"<doc [^>]*>\n(.*?)\n</doc>", min_characters=5)
    found = draw("plain_text", [spec], 2, 0, local, no_stream)
    assert sorted(text.text for text in found) == ["A\n\nfirst text", "C\n\nthird one"]
    assert {text.source for text in found} == {"wiki"}
    with pytest.raises(UserError, match=r"3 texts asked for, 2 there: lower text\.n_documents"):
        draw("plain_text", [spec], 3, 0, local, no_stream)


def test_pairs_keep_what_only_asks_for_and_no_repeat(tmp_path):
    path = tmp_path / "a.jsonl"
    pairs = [{"instruction": f"q{n}", "input": "", "output": f"a {n}"} for n in range(12)]
    lines = [*pairs, pairs[0], {"instruction": "q", "input": "more", "output": "a"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    spec = TextSpec(file=str(path), source="mine", column="instruction", answer="output", only={"input": ""})
    found = draw("instruction_answers", [spec], 12, 0, local, no_stream)
    assert {(text.instruction, text.text) for text in found} == {(row["instruction"], row["output"]) for row in pairs}
    assert found == draw("instruction_answers", [spec], 12, 0, local, no_stream)
    assert found[:5] == draw("instruction_answers", [spec], 5, 0, local, no_stream)
    assert found != draw("instruction_answers", [spec], 12, 1, local, no_stream)
    path.write_text('{"instruction": "q", "input": ""}\n')
    with pytest.raises(UserError, match=re.escape("a.jsonl:1 has no text in 'output'")):
        draw("instruction_answers", [spec], 1, 0, local, no_stream)


def test_rows_of_a_data_set_are_drawn_like_those_of_a_file():
    spec = TextSpec(repo="owner/name", revision=COMMIT, source="hub")
    found = draw("plain_text", [spec], 3, 0, local, lambda spec: iter([{"text": f"t{n}"} for n in range(5)]))
    assert len({text.text for text in found}) == 3
    with pytest.raises(UserError, match="owner/name:row 1 has no text in 'text'"):
        draw("plain_text", [spec], 1, 0, local, lambda spec: iter([{"body": "x"}]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needs a file or a repo"),
        ({"file": "a", "repo": "o/n", "revision": COMMIT}, "needs a file or a repo, and not both"),
        ({"repo": "o/n", "revision": "main"}, "use a commit of 40 hex digits"),
        ({"file": "a", "sha256": "0"}, "needs both sha256 and places"),
        ({"file": "a", "min_characters": 0}, "at least 1"),
        ({"file": "a", "document": "(a"}, "no regular expression"),
        ({"file": "a", "document": "a"}, "has 0 groups"),
    ],
)
def test_a_text_that_cannot_be_had_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TextSpec(source="x", **values)


def test_profiles_name_their_texts_and_the_papers_are_pinned():
    assert [compose("tiny", name, []).text.name for name in ("smoke", "standard", "paper")] == [
        "builtin",
        "builtin",
        "paper",
    ]
    paper = compose("tiny", "paper", []).text
    assert [spec.repo for spec in (*paper.plain_text, *paper.instruction_answers)] == [
        "monology/pile-uncopyrighted",
        "tatsu-lab/alpaca",
    ]
    for spec in (*paper.plain_text, *paper.instruction_answers):
        assert re.fullmatch("[0-9a-f]{40}", spec.revision)
    with pytest.raises(UserError, match=r"text\.folder"):
        compose("tiny", "standard", ["text=mirror"])
    for path in (CONF / "text").glob("*.yaml"):
        assert "licence:" in path.read_text()


def test_the_mirror_preset_reads_the_shared_files(shared):
    config = compose("tiny", "standard", ["text=mirror", f"text.folder={shared / 'data/text'}"]).text
    found = {
        name: draw(name, [TextSpec(**spec) for spec in getattr(config, name)], 300, 0, local, no_stream)
        for name in ("plain_text", "instruction_answers")
    }
    assert {text.source for text in found["plain_text"]} == {"C4", "WikiText-2"}
    assert all(text.instruction and text.text for text in found["instruction_answers"])


@pytest.mark.slow
def test_the_builtin_preset_has_texts_to_draw_from(tmp_path):
    from pipeline.sources import local_path

    config = compose("tiny", "standard", []).text
    for name in ("plain_text", "instruction_answers"):
        specs = [TextSpec(**spec) for spec in getattr(config, name)]
        fetched = {spec.name: local_path(spec.file, spec.sha256, spec.places, tmp_path) for spec in specs}
        found = draw(name, specs, 400, 0, lambda spec, fetched=fetched: fetched[spec.file], no_stream)
        assert min(len(text.text) for text in found) >= specs[0].min_characters


# The hub


def test_only_the_rows_asked_for_are_read(monkeypatch):
    read = []

    def endless():
        number = 0
        while True:
            read.append(number)
            yield {"text": f"t{number}"}
            number += 1

    monkeypatch.setattr(rows.hub, "reach", lambda: None)
    calls = []
    monkeypatch.setattr(rows, "load_dataset", lambda *args, **options: calls.append((args, options)) or endless())
    found = list(rows.stream("owner/name", COMMIT, "train", 3, "x"))
    assert [row["text"] for row in found] == ["t0", "t1", "t2"]
    assert read == [0, 1, 2]
    assert calls == [(("owner/name",), {"revision": COMMIT, "split": "train", "streaming": True})]


@pytest.mark.parametrize("error", [ConnectionError("Server Disconnected\nat x"), ValueError("Bad split: test.\nmore")])
def test_a_broken_stream_is_one_line_that_names_another_way(error, monkeypatch):
    def broken():
        yield {"text": "x"}
        raise error

    monkeypatch.setattr(rows.hub, "reach", lambda: None)
    monkeypatch.setattr(rows, "load_dataset", lambda *args, **options: broken())
    with pytest.raises(UserError) as caught:
        list(rows.stream("owner/name", COMMIT, "train", None, "use text=builtin"))
    line = str(error).splitlines()[0]
    assert str(caught.value) == f"owner/name@aaaaaaaaaaaa could not be read: {line}. Try: use text=builtin"


def test_no_hub_is_one_line_at_once(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"could not be read: no connection\. Try: use text=builtin"):
        list(rows.stream("owner/name", COMMIT, "train", 3, "use text=builtin"))
    monkeypatch.setattr(rows.hub, "reach", lambda: None)
    with pytest.raises(UserError, match="'main' can move"):
        list(rows.stream("owner/name", "main", "train", 3, "x"))
