"""Loading, splitting and auditing prompts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.config.compose import compose
from pipeline.config.data import DataConfig, FileSpec, PoolSpec, SplitSizes
from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.prompts.build import build
from pipeline.prompts.load import load
from pipeline.prompts.prompt import Prompt, prompt_id
from pipeline.prompts.similar import Similarity, surface_auroc
from pipeline.sources import Artefact, fetch

TOPICS = [
    "tea",
    "rivers",
    "maps",
    "kites",
    "bread",
    "clocks",
    "ponds",
    "tiles",
    "wool",
    "drums",
    "moss",
    "boats",
    "glass",
    "ferns",
    "bells",
    "paint",
]
SIZES = {"harmful": SplitSizes(4, 2, 2), "harmless": SplitSizes(4, 2, 2)}


def as_prompts(texts):
    return [Prompt(prompt_id(text), text, "", "test", "") for text in texts]


def custom(tmp_path, harmful, harmless, drop=True):
    for name, rows in (("bad", harmful), ("good", harmless)):
        (tmp_path / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return DataConfig(
        name="custom",
        harmful=PoolSpec([FileSpec(str(tmp_path / "bad.txt"), "mine")]),
        harmless=PoolSpec([FileSpec(str(tmp_path / "good.txt"), "mine")]),
        near_duplicate=0.7,
        drop_near_duplicates=drop,
    )


def run(config, seed=0, sizes=SIZES):
    return build(config, sizes, seed, lambda spec: Path(spec.file))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"instruction": "x"}\nnot json\n', r"a.jsonl:2 is not JSON"),
        ("a.jsonl", '{"instruction": "x"}\n\n{"text": "y"}\n', r"a.jsonl:3 has no 'instruction'"),
        ("a.jsonl", '{"instruction": 3}\n', r"a.jsonl:1 has an empty or non-text"),
        ("a.jsonl", "", r"a.jsonl holds no instruction"),
        ("a.txt", "\n  \n", r"a.txt holds no instruction"),
        ("a.csv", "text\nx\n", r"a.csv:2 has no 'instruction'"),
        ("a.csv", "instruction,n\nx,1\ny\n", r"a.csv:3 has another number of fields"),
        ("a.json", '{"instruction": "x"}', r"a.json is not a JSON list"),
        ("a.pkl", "x", r"unknown kind of file"),
        ("a.prompt", "value: 3\n", r"not a YAML file with seeds"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load(FileSpec(str(path), "mine"), path)
    assert "\n" not in str(caught.value)


def test_missing_and_undecodable_files(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load(FileSpec("gone.txt", "mine"), tmp_path / "gone.txt")
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        load(FileSpec("latin.txt", "mine"), path)


def test_each_format_gives_the_same_prompts(tmp_path):
    texts = ["Name a river", "Draw a map, please"]
    contents = {
        "a.txt": "\n".join(texts),
        "a.jsonl": "\n".join(json.dumps({"instruction": text}) for text in texts),
        "a.json": json.dumps([{"instruction": text} for text in texts]),
        "a.csv": 'instruction\nName a river\n"Draw a map, please"\n',
        "a.prompt": "seeds:\n- instruction: Name a river\n- instruction: Draw a map, please\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        loaded = load(FileSpec(name, "mine"), tmp_path / name)
        assert [prompt.instruction for prompt in loaded] == texts, name


def test_sets_are_disjoint_seeded_and_of_the_asked_size(tmp_path):
    config = custom(tmp_path, [f"Break the {t}" for t in TOPICS], [f"Draw some {t}" for t in TOPICS])
    built, audit = run(config)
    assert {name: len(rows) for name, rows in built.sets.items()} == {
        f"{kind}_{part}": size
        for kind in ("harmful", "harmless")
        for part, size in (("train", 4), ("val", 2), ("test", 2))
    }
    ids = [prompt.id for rows in built.sets.values() for prompt in rows]
    assert len(ids) == len(set(ids))
    assert run(config)[0] == built
    assert run(config)[1] == audit
    assert run(config, seed=1)[0] != built


def test_the_size_of_one_set_does_not_change_the_draw_of_another_class(tmp_path):
    config = custom(tmp_path, [f"Break the {t}" for t in TOPICS], [f"Draw some {t}" for t in TOPICS])
    other = {"harmful": SplitSizes(2, 1, 1), "harmless": SIZES["harmless"]}
    assert run(config)[0].sets["harmless_train"] == run(config, sizes=other)[0].sets["harmless_train"]


def test_too_few_prompts_names_the_setting(tmp_path):
    config = custom(tmp_path, [f"Break the {t}" for t in TOPICS[:5]], [f"Draw some {t}" for t in TOPICS])
    with pytest.raises(UserError, match=r"harmful_train: 4 prompts asked for, 1 left .* lower sizes.harmful.train"):
        run(config)


def test_near_duplicates_are_dropped_or_reported(tmp_path):
    planted = [f"Explain in detail how to break the {topic} of a neighbour" for topic in TOPICS]
    copies = [text.replace("in detail", "in great detail") for text in planted]
    harmless = [f"Draw some {t}" for t in TOPICS]
    sizes = {"harmful": SplitSizes(16, 8, 8), "harmless": SIZES["harmless"]}
    _, reported = run(custom(tmp_path, planted + copies, harmless, drop=False), sizes=sizes)
    assert any(rows["near"] for rows in reported["overlaps"].values())
    assert "Explain" not in json.dumps(reported), "the audit names prompts by id"
    _, clean = run(custom(tmp_path, planted + copies, harmless, drop=True), sizes=SIZES)
    assert not any(rows["near"] or rows["exact"] for rows in clean["overlaps"].values())
    assert clean["not_drawn_as_repeats"]["harmful_train"] >= 16


def test_exact_duplicates_differ_in_case_and_punctuation_only():
    assert prompt_id("Draw a map!") == prompt_id("draw  a map")
    assert prompt_id("Draw a map") != prompt_id("Draw a lake")


def test_surface_auroc_sees_form_and_nothing_else():
    alike = as_prompts([f"Draw the {a} and the {b}" for a, b in zip(TOPICS * 4, reversed(TOPICS * 4), strict=True)])
    questions = as_prompts([f"Which {t} would you draw, and why not two of them?" for t in TOPICS])
    assert (surface_auroc(questions, alike[:16], seed=0) or {})["value"] > 0.95
    even, odd = alike[::2], alike[1::2]
    assert (surface_auroc(even, odd, seed=0) or {})["value"] < 0.75
    assert surface_auroc(alike[:3], alike, seed=0) is None


def small_stand_ins(folder):
    """A file per reader of preset builtin, with one exact and one near repeat of an evaluation prompt."""
    evaluated = [f"Steal the {topic}" for topic in TOPICS[:4]] + ["Explain how to ruin a picnic by night"]
    wanted = [f"Spoil {topic}" for topic in TOPICS[4:9]]
    repeats = [evaluated[0].upper() + "!", "Please explain how to ruin a picnic by night"]
    harmless = [
        {"instruction": f"{verb} {topic}", "topic": topic, "form": form}
        for form, verb, topics in (("train", "Paint", TOPICS[9:13]), ("test", "Admire", TOPICS[13:]))
        for topic in topics
    ]
    contents = {
        ".csv": "category,forbidden_prompt\n" + "".join(f"theft,{text}\n" for text in evaluated),
        ".prompt": "seeds:\n" + "".join(f"- value: {text}\n  harm_categories: [spite, loss]\n" for text in wanted),
        ".txt": "\n".join(repeats),
        ".jsonl": json.dumps({"prompt": wanted[0], "intents": ["spite"]}),
        "harmless": "\n".join(json.dumps(row) for row in harmless),
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return lambda spec: folder / (Path(spec.file).suffix if spec.places else "harmless")


def test_preset_builtin_keeps_evaluation_prompts_and_their_likes_out_of_train_and_val(tmp_path):
    config = OmegaConf.to_object(compose("tiny", "standard", []))
    assert isinstance(config, Config)
    assert config.data.name == "builtin"
    sizes = {"harmful": SplitSizes(3, 2, 5), "harmless": SplitSizes(3, 1, 3)}
    built, audit = build(config.data, sizes, 0, small_stand_ins(tmp_path))
    assert not any(rows["near"] or rows["exact"] for rows in audit["overlaps"].values())
    kept = replace(config.data, drop_near_duplicates=False)
    _, kept_audit = build(kept, sizes | {"harmful": SplitSizes(4, 2, 5)}, 0, small_stand_ins(tmp_path))
    overlaps = kept_audit["overlaps"]
    assert overlaps["harmful_test harmful_train"]["near"] or overlaps["harmful_test harmful_val"]["near"]
    learnt = [*built.sets["harmful_train"], *built.sets["harmful_val"]]
    assert {prompt.source for prompt in learnt} == {"AdvBench"}, "the other files only repeat"
    assert {(prompt.category, prompt.licence) for prompt in learnt} == {("spite, loss", "MIT")}
    assert {prompt.licence for prompt in built.sets["harmful_test"]} == {"MIT in part, otherwise not stated"}
    for part, start in (("train", "Paint"), ("val", "Paint"), ("test", "Admire")):
        assert all(prompt.instruction.startswith(start) for prompt in built.sets[f"harmless_{part}"])
    with pytest.raises(UserError, match=r"harmful_train: 4 prompts asked for, 3 left"):
        build(config.data, sizes | {"harmful": SplitSizes(4, 2, 5)}, 0, small_stand_ins(tmp_path))


def test_jailbreakbench_has_near_duplicates_in_the_papers_train_split(shared):
    folder = shared / "data" / "arditi2024"
    texts = [
        [row["instruction"] for row in json.loads((folder / name).read_text())]
        for name in ("processed/jailbreakbench.json", "splits/harmful_train.json")
    ]
    evaluation, train = map(as_prompts, texts)
    pairs = Similarity([*evaluation, *train]).pairs(evaluation, train, 0.7)
    assert len({pair.first for pair in pairs}) == 12, "the number that docs/choices.md gives"
    assert pairs[0].similarity > 0.99
    closest = Similarity([*evaluation, *train]).pairs(evaluation, train, 0.58)
    assert {pair.first for pair in closest} == {pair.first for pair in pairs}, "no prompt lies near the threshold"


def test_preset_paper_from_a_mirror_keeps_the_splits_and_reports_them(shared, tmp_path):
    config = OmegaConf.to_object(compose("tiny", "paper", []))
    assert isinstance(config, Config)
    mirror = shared / "data" / "arditi2024"

    def open_file(spec):
        return fetch(Artefact(spec.file, spec.sha256, tuple(spec.places)), tmp_path, mirror)

    sizes = {"harmful": config.sizes.harmful, "harmless": config.sizes.harmless}
    built, audit = build(config.data, sizes, 0, open_file)
    assert len(built.sets["harmful_train"]) == 128
    assert len(built.sets["harmful_test"]) == 100
    assert audit["pools"]["harmful_train"] == 260
    assert audit["overlaps"]["harmful_test harmful_train"]["near"]
