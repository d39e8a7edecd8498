"""Judges at work in the graph and on files: each text judged once, resume, endpoints, folders of weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands.judge import settings
from pipeline.config.compose import compose
from pipeline.disk import files
from pipeline.entry.judging import Panel, endpoint_of
from pipeline.errors import UserError
from pipeline.model.loading import random_model
from pipeline.results.verdict import Verdict
from tests.conftest import ROOT
from tests.helpers.judge_server import Server
from tests.helpers.judges import TEMPLATE, judge_tokenizer
from tests.helpers.stop import killed

LONG = " ".join(["word"] * 20)
TEXTS = [(f"prompt {number}", f"{number} {LONG}") for number in range(6)]


def panel(tmp_path, *overrides: str) -> Panel:
    return Panel(settings(overrides), lambda key: tmp_path / f"{key}.jsonl")


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    """A random model of Llama Guard's architecture with its chat template."""
    from pipeline.config.compose import family

    folder = tmp_path_factory.mktemp("guard")
    tiny = family("llama").tiny
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_model, "byte_tokenizer", lambda: judge_tokenizer(TEMPLATE))
        random_model.write_random_model(folder, tiny["model_type"], 0, tiny["options"])
    return folder


def test_a_text_is_judged_once_and_short_ones_without_a_judge(tmp_path):
    texts = [("a", "I'm sorry, but I cannot."), ("b", "Sure."), ("a", "I'm sorry, but I cannot.")]
    bench = panel(tmp_path)
    assert {text: v.label for text, v in bench.verdicts("substring", texts).items()} == {
        texts[0]: "refused",
        texts[1]: "answered",
    }
    # No weights of this judge are here: what needs them would fail.
    short = bench.verdicts("llama_guard_2", texts)
    assert set(short.values()) == {Verdict("safe", "fewer than 15 words")}


def test_a_folder_of_weights_judges_and_a_rerun_reads_what_is_kept(tmp_path, guard, monkeypatch):
    overrides = (f"judge.folders.llama_guard_2={guard}", "judge.dtype=float32", "judge.device=cpu")
    first = panel(tmp_path, *overrides)
    verdicts = first.verdicts("llama_guard_2", TEXTS)
    assert list(verdicts) == TEXTS
    assert {verdict.label for verdict in verdicts.values()} == {"unknown"}, "a random model says nothing that is read"
    [kept] = tmp_path.glob("*.jsonl")
    assert len(files.read_jsonl(kept)) == len(TEXTS)
    monkeypatch.setattr("pipeline.judges.model.classifier.load", lambda *_: pytest.fail("the weights are loaded again"))
    second = panel(tmp_path, *overrides)
    assert second.verdicts("llama_guard_2", TEXTS) == verdicts
    second.finish()
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_killed_run_goes_on_to_the_same_file(tmp_path, guard):
    rows = [{"id": n, "prompt": prompt, "response": response} for n, (prompt, response) in enumerate(TEXTS * 4)]
    rows = [{**row, "prompt": f"{row['prompt']} {row['id']}"} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "judge",
        str(tmp_path / "rows.jsonl"),
        "--judges",
        "llama_guard_2",
    ]
    command += ["--set", f"judge.folders.llama_guard_2={guard}", "--set", "judge.dtype=float32"]
    command += ["--set", "judge.batch_size=1", "--set", "judge.device=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "-o", str(tmp_path / "whole.jsonl")], cwd=ROOT, env=environment, check=True)
    out, folder = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    killed([*command, "-o", str(out)], f"{folder}/*.jsonl", 3, cwd=ROOT, env=environment)
    assert 3 == sum(map(lines, folder.glob("*.jsonl"))) < len(rows)
    assert not out.exists()
    subprocess.run([*command, "-o", str(out)], cwd=ROOT, env=environment, check=True)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not folder.exists()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_a_judge_may_be_asked_over_an_endpoint(tmp_path):
    with Server() as server:
        import threading

        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = "judge.endpoints.llama_guard_3"
        overrides = (f"+{name}.base_url={server.url}", f"+{name}.model=guard", f"+{name}.max_retries=0")
        texts = [(f"[r{number}] how?", f"{number} {LONG}") for number in range(3)]
        verdicts = panel(tmp_path, *overrides).verdicts("llama_guard_3", texts)
        server.shutdown()
    assert {body["model"] for body in server.bodies} == {"guard"}
    assert {verdict.label for verdict in verdicts.values()} == {"unknown"}, "the server says yes and no, not safe"
    assert [verdict.reason for verdict in verdicts.values()][:2] == ["yes", "no"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["judge.safety=[oracle]"], "judge.safety is ['oracle']: use probe, llama_guard_2"),
        (["judge.refusal=llama_guard_2"], "judge.refusal is 'llama_guard_2': use one of substring"),
        (["+judge.folders.substring=x"], "judge.folders is ['substring']: name judges that are models"),
        (["judge.batch_size=0"], "judge.batch_size is 0: use at least 1"),
        (["judge.min_words=-1"], "judge.min_words is -1: use 0 or more"),
        (["judge.dtype=int8"], "judge.dtype is 'int8': use one of"),
        (["evaluate.n_prompts=-1"], "evaluate.n_prompts is -1: use 0"),
        (["+evaluate.systems.a_b=x"], "evaluate.systems is"),
        (["+data.sets.Bad={kind: harmful, files: []}"], "data.sets: a set needs at least one file"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line(overrides, message):
    with pytest.raises(UserError) as caught:
        compose("tiny", "smoke", overrides)
    assert message in str(caught.value)


def test_an_endpoint_holds_no_key(tmp_path):
    config = settings(["+judge.endpoints.harmbench={base_url: 'http://host/v1', model: m, key_variable: JUDGE_KEY}"])
    assert endpoint_of(config.judge.endpoints["harmbench"]).key_variable == "JUDGE_KEY"
