"""Damaged inputs in every reader: a value or one line for the user, never a traceback.

FUZZ_SEED repeats a run, FUZZ_N sets how many inputs each reader is given.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.commands.select import read_candidates
from pipeline.config import compose as composing
from pipeline.config import resolved
from pipeline.config.data import FileSpec
from pipeline.config.overrides import require_overrides
from pipeline.config.params import read_params
from pipeline.graph.runs import recorded_runs
from pipeline.prompts.load import load as load_prompts
from tests.helpers.fuzz import N, crashes, mutated

ROWS = [{"instruction": "Say yes.", "category": ["a", "b"]}, {"instruction": "Say\nno.", "category": 3}]
SCORES = [{"position": -1, "layer": n, "bypass": 0.5, "induce": -1e-3, "kl": 0.0, "n_harmful": 4} for n in range(3)]
HEADER = "position,layer,refusal_score,steering_score,kl_div_score,zero_norm\n"
LOCK = """schema: '2.0'
stages:
  compose@tiny-smoke-x:
    cmd:
    - python -m pipeline.stages compose --model tiny --run smoke-x
    deps: [{path: conf, md5: 0a, size: 1, nfiles: 2}]
    params: {params.yaml: {overrides: [seed=2, "model.title='a=b'"]}}
    outs:
    - {path: outputs/models/tiny/smoke-x/config.yaml, md5: 0b, size: 3}
  golden: {cmd: x, outs: [{path: outputs/golden/golden.json}]}
"""
OVERRIDES = ("seed=2", "model.title='a=b'", "+memory.limits.gpu0=20", "judge.others=[markers]", "~suffix", "data=toy")
CONFIG = "seed: 0\nmodel: {title: a, chat: {date: 2024-07-26}}\nselect: {kl_threshold: 0.1}\ngenerate: {lengths: [1]}\n"
SEEDS: dict[str, list[str]] = {
    "prompts.jsonl": ["".join(json.dumps(row) + "\n" for row in ROWS)],
    "prompts.csv": ['instruction,category\n"Say, yes.",a\nSay no.,b\n'],
    "prompts.txt": ["Say yes.\nSay no.\n"],
    "prompts.json": [json.dumps(ROWS)],
    "prompts.prompt": ["name: x\nseeds:\n  - instruction: Say yes.\n  - {instruction: Say no., category: [a]}\n"],
    "scores.json": [json.dumps(SCORES)],
    "scores.csv": [HEADER + "-1,0,0.5,0.1,0.01,False\n-1,1,nan,,,True\n"],
    "params.yaml": ["models: # names\n  - tiny\nprofile: smoke-x\noverrides: [seed=2, \"model.title='a=b'\"]\n"],
    "dvc.lock": [LOCK],
    "overrides": list(OVERRIDES),
    "config.yaml": [CONFIG],
}
SPEC = FileSpec(file="", source="test", category="category")


def reader_of(name: str, path: Path) -> Callable[[Path], Any]:
    """What reads the file."""
    kind = name.partition(".")[0]
    spec = FileSpec(file=path.name, source="test", category="category")
    readers: dict[str, Callable[[Path], Any]] = {
        "prompts": lambda path: load_prompts(spec, path),
        "scores": read_candidates,
        "params": read_params,
        "dvc": recorded_runs,
        "config": resolved.load,
        "overrides": lambda path: require_overrides(path.read_bytes().decode("utf-8", "surrogateescape").split("\n")),
    }
    return readers[kind]


def fed(name: str, folder: Path) -> Callable[[bytes], Any]:
    """Bytes into a file, and the file into its reader."""
    path = folder / name
    read = reader_of(name, path)

    def run(given: bytes) -> Any:
        path.write_bytes(given)
        return read(path)

    return run


@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_file_is_read_or_refused(name, tmp_path):
    seeds = [text.encode() for text in SEEDS[name]]
    found = crashes(fed(name, tmp_path), seeds)
    assert not found, "\n".join(map(str, found))


def test_a_damaged_resolved_configuration_is_loaded_or_refused(tmp_path):
    whole = OmegaConf.to_yaml(composing.compose("tiny", "smoke", []), sort_keys=True)
    found = crashes(fed("config.yaml", tmp_path), [whole.encode()], n=max(1, N // 25))  # 40 ms each
    assert not found, "\n".join(map(str, found))


def test_a_planted_crash_is_found(tmp_path, monkeypatch):
    from pipeline.prompts import load as loading

    plain = loading.wanted

    def planted(spec, row):
        if "catgory" in row or len(row) > 2 or "category" not in row:
            raise KeyError("category")
        return plain(spec, row)

    monkeypatch.setattr(loading, "wanted", planted)
    found = crashes(fed("prompts.jsonl", tmp_path), [SEEDS["prompts.jsonl"][0].encode()])
    assert found
    assert all(isinstance(crash.error, KeyError) for crash in found)


def test_damage_follows_from_its_seed():
    made = [mutated(b"abc\ndef", [b"xyz"], random.Random(3)) for _ in range(2)]
    assert made[0] == made[1] != b"abc\ndef"
    assert N >= 1


def test_configurations_made_of_damaged_overrides_are_refused_in_one_line():
    def composed(given: bytes) -> None:
        composing.compose("tiny", "smoke", [given.decode("utf-8", "replace")])

    found = crashes(composed, [text.encode() for text in OVERRIDES], n=max(1, N // 100))
    assert not found, "\n".join(map(str, found))
