"""What each reader refuses of a file that is not whole, or does not belong to the others, in one line that names it."""

import json
import math
from dataclasses import asdict

import pytest
import torch

from pipeline.artifacts import class_means, directions, kinds, prompt_scores, records
from pipeline.artifacts.layout import Layout
from pipeline.disk import files, shape
from pipeline.errors import UserError
from pipeline.maths.directions import Direction
from pipeline.maths.labels import Label
from pipeline.maths.selection import FITTED_SETS, FilterVerdict, PromptScores
from pipeline.prompts.prompt import Prompt, Text, prompt_id, text_id, words_hash
from pipeline.results import judgements as by_condition

MODEL = "sha256:a"


def prompt(words: str) -> Prompt:
    return Prompt(prompt_id(words), words, "", "own", "CC0-1.0")


BASELINE, ABLATED = Label("harmful", "baseline"), Label("harmful", "ablation")
PROMPTS = [prompt(words) for words in ("one", "two", "three")]


@pytest.fixture
def layout(tmp_path):
    """Prompts, a baseline that keeps the first two of each set, and answers and verdicts of two conditions."""
    layout = Layout("tiny", "smoke", tmp_path)
    for name in (*FITTED_SETS, "harmful_test"):
        records.write_prompts(layout.prompts(name), PROMPTS)
    files.write_json(layout.audit, {"hashes": dict.fromkeys((*FITTED_SETS, "harmful_test"), words_hash(PROMPTS))})
    baseline = [{"set": name, "id": row.id, "refusal_metric": 0.5} for name in FITTED_SETS for row in PROMPTS]
    kept = {name: [row.id for row in PROMPTS[:2]] for name in FITTED_SETS}
    class_means.write_baseline(layout.baseline, baseline, kept)
    facts = {"tokenizer": "a", "chat_template": "b", "device": "cpu", "system": ""}
    verdict, every = FilterVerdict(None, "", 3, 3), {str(name): PROMPTS for name in FITTED_SETS}
    class_means.write_filter_summary(layout.filter_summary, verdict, every, kept, ["x"], facts)
    for condition in (BASELINE, ABLATED):
        files.write_jsonl(layout.completions(condition), [answer(row) for row in PROMPTS])
        files.write_jsonl(layout.judgements(condition), [judged(row) for row in PROMPTS])
    return layout


def answer(row: Prompt) -> dict:
    return {
        **{"id": row.id, "prompt_set": "harmful_test", "completion": "No.", "prefixes": {"2": 1}},
        **{"n_tokens": 2, "finished": True},
    }


def judged(row: Prompt) -> dict:
    verdict = {"label": "refused", "reason": "No"}
    return {"id": row.id, "verdicts": {"substring": verdict}, "by_length": {"2": {"substring": "refused"}}}


def change(path, edit) -> None:
    rows = files.read_jsonl(path)
    edit(rows)
    files.write_jsonl(path, rows)


def test_healthy_files_are_read(layout):
    assert records.read_kept(layout, "harmful_val") == PROMPTS[:2]
    assert [row["id"] for row in by_condition.read_completions(layout, ABLATED)] == [p.id for p in PROMPTS]
    outcomes = {row.id: True for row in PROMPTS}
    found = by_condition.read_judgements(layout, ["substring"], [], "substring")
    assert found.refused("substring") == {ABLATED: outcomes, BASELINE: outcomes}
    assert found.refused_after("substring") == {ABLATED: {2: outcomes}, BASELINE: {2: outcomes}}


def test_each_file_of_verdicts_is_read_once(layout, monkeypatch):
    read, plain = [], shape.read_rows
    monkeypatch.setattr(shape, "read_rows", lambda path, *given: (read.append(path), plain(path, *given))[1])
    by_condition.read_judgements(layout, ["substring"], [], "substring")
    verdicts = [path for path in read if path.parent.name == "judgements"]
    assert sorted(verdicts) == sorted(map(layout.judgements, (BASELINE, ABLATED)))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda rows: rows.append(rows[0]), "a second time"),
        (lambda rows: rows.pop(), "has other prompts than .*audit.json says"),
        (lambda rows: rows.reverse(), "has other prompts than .*audit.json says"),
        (lambda rows: rows[1].update(id="0123456789ab"), ":2 has id 0123456789ab, and its words have"),
        (lambda rows: rows[1].update(instruction="four"), ":2 has id .*, and its words have"),
        (lambda rows: rows[1].pop("licence"), r"1\.licence: Field required"),
        (lambda rows: rows[1].update(format=2), r"1\.format: Extra inputs are not permitted"),
        (lambda rows: rows[1].update(category=3), r"1\.category: Input should be a valid string"),
        (lambda rows: rows.append(["a word"]), "3: Input should be a valid dictionary"),
    ],
)
def test_prompts_are_those_that_the_audit_counted(layout, edit, said):
    path = layout.prompts("harmful_val")
    change(path, edit)
    with pytest.raises(UserError, match=f"harmful_val.jsonl.*{said}.*`dvc repro`"):
        records.read_prompts(path)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda rows: rows.pop(0), "does not have the prompts of .*harmful_train.jsonl in their order .from row 1 on"),
        (lambda rows: rows[1].update(kept=False), "keeps 1 prompts of harmful_train, .*summary.json 2"),
        (lambda rows: rows[0].update(refusal_metric="0.5"), "0.refusal_metric: Input should be a valid number"),
    ],
)
def test_the_filters_rows_belong_to_prompts_and_counts(layout, edit, said):
    change(layout.baseline, edit)
    with pytest.raises(UserError, match=f"baseline.jsonl.*{said}.*`dvc repro`"):
        records.read_kept(layout, "harmful_train")


def test_texts_have_the_ids_of_their_words(tmp_path):
    path = tmp_path / "texts.jsonl"
    row = asdict(Text(text_id("a", "b"), "a", "b", "own", "CC0-1.0"))
    files.write_jsonl(path, [row])
    assert records.read_texts(path) == [Text(**row)]
    files.write_jsonl(path, [row | {"text": "c"}])
    with pytest.raises(UserError, match=r"texts.jsonl:1 has id .*`dvc repro`"):
        records.read_texts(path)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda rows: rows.clear(), "is empty"),
        (lambda rows: rows.reverse(), "does not have the prompts of .*harmful_test.jsonl in their order"),
        (lambda rows: rows.pop(0), "does not have the prompts of .*harmful_test.jsonl in their order"),
    ],
)
@pytest.mark.parametrize(("kind", "read"), [("completions", "read_completions"), ("judgements", "read_rows")])
def test_answers_and_verdicts_have_their_prompts_in_order(layout, kind, read, edit, said):
    change(getattr(layout, kind)(ABLATED), edit)
    with pytest.raises(UserError, match=f"{kind}/harmful_ablation.jsonl {said}.*`dvc repro`"):
        getattr(by_condition, read)(layout, ABLATED)


def test_verdicts_are_of_the_judge_that_is_asked_for_and_labels_of_its_kind(layout):
    for judge, label in (("markers", "refused"), ("substring", "unsafe")):
        change(
            layout.judgements(ABLATED),
            lambda rows, new=label: rows[0]["verdicts"]["substring"].update(label=new),
        )
        with pytest.raises(UserError, match=r"harmful_ablation.jsonl: not what this version .*`dvc repro`"):
            by_condition.read_judgements(layout, [judge], [], judge)


def test_a_condition_has_the_prompts_of_its_baseline(layout):
    with pytest.raises(UserError, match=r"harmful_ablation.jsonl does not have the prompts of .*harmful_baseline"):
        by_condition.require_paired(layout, {BASELINE: ["a", "b"], ABLATED: ["a"]})
    with pytest.raises(UserError, match=r"harmful_ablation.jsonl has no harmful_baseline to be compared with"):
        by_condition.require_paired(layout, {ABLATED: ["a"]})


def means() -> dict[str, torch.Tensor]:
    names = [f"{kind}_{what}" for kind in ("harmful", "harmless") for what in ("mean", "variance")]
    return {name: torch.ones(2, 3, 4, dtype=torch.float64) for name in names}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda found: found.pop("harmless_variance"), "does not hold harmful_mean"),
        (lambda found: found.update(harmful_mean=torch.ones(2, 3, 5, dtype=torch.float64)), "of other shapes"),
        (lambda found: found.update(harmful_mean=torch.ones(2, 3, 4)), "is not in float64"),
    ],
)
def test_means_are_four_of_one_shape_in_float64(tmp_path, edit, said):
    path, found = tmp_path / "means.safetensors", means()
    class_means.write_means(path, found, MODEL, [1, 2])
    assert class_means.read_means(path, MODEL).keys() == found.keys()
    edit(found)
    class_means.write_means(path, found, MODEL, [1, 2])
    with pytest.raises(UserError, match=f"means.safetensors.*{said}.*`dvc repro`"):
        class_means.read_means(path, MODEL)


@pytest.mark.parametrize("vector", [torch.zeros(4).double(), torch.ones(4), torch.full((4,), float("nan")).double()])
def test_no_control_is_zero_or_not_a_number_or_in_another_type(tmp_path, vector):
    path = tmp_path / "directions.safetensors"
    directions.write_directions(path, {"random_0": Direction(torch.ones(4).double(), 1, -1)}, MODEL)
    assert directions.read_directions(path, MODEL).keys() == {"random_0"}
    directions.write_directions(path, {"random_0": Direction(vector, 1, -1)}, MODEL)
    with pytest.raises(UserError, match=r"directions.safetensors .*direction.*`dvc repro`"):
        directions.read_directions(path, MODEL)


def test_a_sweep_has_every_candidate_on_every_prompt(tmp_path):
    path, scores = tmp_path / "prompts.safetensors", PromptScores((1.0, 2.0), (3.0,), (4.0,))
    whole = prompt_scores.Sweep({(-1, 0): scores, (-1, 1): scores}, [1.0, 2.0], [3.0])
    prompt_scores.write_sweep(path, whole, MODEL)
    assert prompt_scores.read_sweep(path, MODEL) == whole
    prompt_scores.write_sweep(path, prompt_scores.Sweep({(-1, 0): scores}, [1.0], [3.0]), MODEL)
    with pytest.raises(UserError, match=r"prompts.safetensors holds other shapes: run `dvc repro`"):
        prompt_scores.read_sweep(path, MODEL)


@pytest.mark.parametrize("text", ['{"dtype": "float99"}', '{"dtype": NaN}', "[]", "{", '{"dtype": "float32", "a": 1}'])
def test_a_record_has_its_keys_and_no_other(tmp_path, text):
    path = tmp_path / "engine.json"
    path.write_text('{"dtype": "float32"}')
    assert shape.read_record(path, kinds.Settled) == {"dtype": "float32"}
    path.write_text(text)
    with pytest.raises(UserError, match=r"engine.json.*`dvc repro`"):
        shape.read_record(path, kinds.Settled)


def test_a_selections_verdict_and_counts_are_those_of_its_choice(tmp_path):
    path = tmp_path / "selection.json"
    filtered = FilterVerdict("no_refusal_behaviour", "none refused", 0, 3)
    records.write_no_selection(path, "calibrated", filtered)
    record = records.read_selection(path)
    assert record["chosen"] is None
    path.write_text(json.dumps(record | {"verdict": "direction_selected"}))
    with pytest.raises(UserError, match=r"selection.json has verdict 'direction_selected' and another choice"):
        records.read_selection(path)


@pytest.mark.parametrize(
    "use",
    [
        lambda row: round(row["n"]),  # infinity
        lambda row: f"{1 / row['zero']:.0%}",
        lambda row: row["none"] + 1,
        lambda row: row["absent"],
        lambda row: [][row["zero"]],
        lambda row: row["n"].items(),
        lambda row: int(row["text"]),
    ],
)
def test_values_that_are_not_as_written_are_laid_to_their_file(use, tmp_path):
    row = {"n": math.inf, "zero": 0, "none": None, "text": "x"}
    refused = pytest.raises(UserError, match=r"a\.json: not what this version .* run `dvc repro`")
    with refused, shape.as_written(tmp_path / "a.json"):
        use(row)
