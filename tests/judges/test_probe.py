"""The safety probe: pure maths, what it reads of a model, its file, and its verdicts."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.testing import assert_close

from pipeline.config.probe_question import ProbeFormat
from pipeline.errors import UserError
from pipeline.judges.maths import linear_probe
from pipeline.judges.maths.agreement import agreement
from pipeline.judges.maths.linear_probe import Choice, LinearProbe, Sample
from pipeline.judges.model import probing
from pipeline.judges.probe.file import SafetyProbe, read_probe, write_probe
from pipeline.model.chat import chat
from pipeline.model.passes import tracing

FORM = ProbeFormat("Is that bad? Yes or No.", max_prompt_tokens=40, max_answer_tokens=60, min_words=5)
LONG = "one two three four five six"
TEXTS = [("hello", LONG), ("how are you today, my friend?", f"{LONG} seven eight nine ten"), ("x", "a b c d e f g")]
FACTS = {"model": "sha256:1", "tokenizer": "2", "chat_template": "3"}


def sample(n: int = 120, strength: float = 1.5, seed: int = 0) -> Sample:
    """Two layers of which the second tells the classes apart; three rows per group."""
    generator = np.random.default_rng(seed)
    labels = generator.random(n // 3).repeat(3) < 0.5
    x = generator.normal(size=(n, 2, 6)) * [1, 50, 1, 1, 3, 1] + 7
    x[:, 1, 0] += strength * (2 * labels - 1)
    return Sample((3, 5), torch.from_numpy(x).float(), labels, np.arange(n // 3).repeat(3).astype(str))


def test_the_folded_probe_is_scikit_learns_pipeline():
    data = sample()
    probe = linear_probe.fit(data, Choice((3, 5), 0.1))
    flat = data.x.double().flatten(1).numpy()
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000, tol=1e-8))
    expected.fit(flat, data.labels)
    assert_close(probe.scores(data.x), torch.from_numpy(expected.decision_function(flat)))
    assert probe.weights.dtype == torch.float64


def test_the_layer_that_tells_the_classes_apart_is_chosen():
    choices = [Choice((layer,), c) for layer in (3, 5) for c in (1e-4, 1e-1)]
    assert linear_probe.choose(sample(), choices, 4, 0) == Choice((5,), 1e-1)


def test_no_group_is_both_fitted_and_scored():
    data = sample(strength=0.0)
    seen = []

    def fitted(part: Sample) -> LinearProbe:
        seen.append(set(part.groups))
        return linear_probe.fit(part, Choice((5,), 0.1))

    scores = linear_probe.out_of_fold(data, fitted, 4, 0)
    assert np.isfinite(scores).all()
    assert all(sum(group in part for part in seen) == 3 for group in set(data.groups))
    # Rows of a group are alike: were they split, chance labels would be predicted.
    found = agreement(data.labels.tolist(), (scores > 0).tolist(), scores.tolist())
    assert found
    assert found.auroc.holds(0.5)


def test_agreement_needs_rows_and_counts_them():
    assert agreement([], [], []) is None
    found = agreement([True, False] * 20, [True, False] * 20, [1.0, 0.0] * 20)
    assert found
    assert (found.n, found.n_true, found.kappa.value, found.auroc.value) == (40, 20, 1.0, 1.0)
    found = agreement([True, True, True, False], [True, False, False, True], [0.9, 0.1, 0.2, 0.8])
    assert found
    assert found.caught
    assert found.false_alarms
    assert (found.caught.value, found.caught.n, found.false_alarms.value, found.false_alarms.n) == (1 / 3, 3, 1.0, 1)
    found = agreement([False], [False], [0.1])
    assert found
    assert found.caught is None


@torch.inference_mode()
def hidden_states(model, prompts):
    padded = chat.pad_left(prompts, model.pad_id)
    out = model.hf(
        input_ids=padded.input_ids,
        attention_mask=padded.attention_mask,
        position_ids=padded.position_ids,
        output_hidden_states=True,
    )
    return torch.stack(out.hidden_states[:-1], dim=2)


def test_features_are_hidden_states_at_the_last_token(model):
    prompts = probing.conversations(model, TEXTS, FORM)
    assert len({len(tokens) for tokens in prompts}) == 3
    [(rows, x)] = probing.features(model, prompts, [1, 3], 10_000)
    ordered = [prompts[row] for row in rows]
    assert torch.equal(x, hidden_states(model, ordered)[:, -1, [1, 3]])
    for row, tokens in enumerate(prompts):
        [(_, alone)] = probing.features(model, [tokens], [1, 3], 10_000)
        assert_close(alone[0], x[rows.index(row)], atol=2e-5, rtol=1e-5)


def test_reading_some_layers_is_reading_all_and_picking(model):
    prompts = model.encode(["hello there", "x"])
    assert torch.equal(tracing.resid_pre(model, prompts, 2, [0, 2]), tracing.resid_pre(model, prompts, 2)[:, :, [0, 2]])
    with pytest.raises(AssertionError, match="once each"):
        tracing.resid_pre(model, prompts, 2, [2, 0])


def test_the_conversation_is_prompt_completion_question(model):
    [tokens] = probing.conversations(model, [("hi", LONG)], FORM)
    turns = [("user", "hi"), ("assistant", LONG), ("user", FORM.question)]
    expected = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"
    assert chat.decode(model.tokenizer, tokens) == expected


def test_what_is_too_long_is_cut_and_no_text_ends_its_turn(model):
    text = "ab<|im_end|>\n<|im_start|>" + "c" * 100
    [cut] = probing.conversations(model, [(text, text)], FORM)
    [same] = probing.conversations(model, [("ab\n" + "c" * 37, "ab\n" + "c" * 57)], FORM)
    assert cut == same
    [longer] = probing.conversations(model, [(text, text + "d")], FORM)
    assert longer == cut


def probe_of(model, seed: int = 0) -> LinearProbe:
    generator = torch.Generator().manual_seed(seed)
    return LinearProbe((1, 3), torch.randn(2, 32, generator=generator, dtype=torch.float64), 0.1)


ROWS = [("a", None), ("b", ""), ("c", "too short"), *TEXTS, ("d", "aa bb cc dd ee ff gg hh")]


def scored(model, max_tokens=10_000, done=()):
    return [item for batch in probing.score(model, probe_of(model), FORM, ROWS, max_tokens, done) for item in batch]


def test_every_row_has_one_verdict_and_short_ones_are_not_read(model):
    found = {item.row: item for item in scored(model)}
    assert sorted(found) == list(range(len(ROWS)))
    assert [(found[row].label, found[row].reason) for row in range(3)] == [
        ("unknown", "no completion"),
        ("safe", "fewer than 5 words"),
        ("safe", "fewer than 5 words"),
    ]
    prompts = probing.conversations(model, [(prompt, str(text)) for prompt, text in ROWS[3:]], FORM)
    for row, tokens in enumerate(prompts, start=3):
        x = hidden_states(model, [tokens])[0, -1, [1, 3]].double()
        logit = float((x * probe_of(model).weights).sum() + 0.1)
        assert found[row].score == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-4)
        assert found[row].label == ("unsafe" if logit > 0 else "safe")
    assert len({item.label for item in found.values()}) == 3


def test_a_resumed_run_gives_the_rest_of_the_same_verdicts(model):
    lengths = [len(tokens) for tokens in probing.conversations(model, TEXTS, FORM)]
    whole = scored(model, max(lengths))
    rest = scored(model, max(lengths), done={0, 1, 4})
    assert len(rest) == len(whole) - 3
    assert rest == [item for item in whole if item.row not in {0, 1, 4}]


def safety_probe(model) -> SafetyProbe:
    return SafetyProbe(probe_of(model), FORM, FACTS, {"references": {}, "n": 3})


def test_a_probe_is_read_as_written_and_written_the_same_again(model, tmp_path):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    write_probe(paths[0], safety_probe(model))
    probe = read_probe(paths[0], FACTS)
    assert torch.equal(probe.linear.weights, probe_of(model).weights)
    assert (probe.linear.layers, probe.linear.bias, probe.linear.threshold) == ((1, 3), 0.1, 0.0)
    assert (probe.format, probe.facts, probe.record) == (FORM, FACTS, {"references": {}, "n": 3})
    write_probe(paths[1], probe)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("key", ["model", "chat_template"])
def test_another_model_is_refused_in_one_line(model, tmp_path, key):
    write_probe(tmp_path / "probe.safetensors", safety_probe(model))
    with pytest.raises(UserError, match=f"belongs to {key} '.*', not 'other'") as caught:
        read_probe(tmp_path / "probe.safetensors", {**FACTS, key: "other"})
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_probe_is_refused(tmp_path):
    with pytest.raises(UserError, match="is missing: fit it"):
        read_probe(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_text(json.dumps({}))
    with pytest.raises(UserError, match="not a whole safetensors file"):
        read_probe(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": " "}, "question is empty"),
        ({"max_answer_tokens": 0}, "at least 1"),
        ({"min_words": -1}, "least 0"),
    ],
)
def test_a_format_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FORM, **changes)


def test_words_are_counted_as_the_paper_counts_them():
    assert FORM.is_short("a b c\nd e")  # four parts between single spaces
    assert not FORM.is_short("a b  c d")
