"""Judges behind an endpoint: one verdict a row whatever the server does, the key nowhere, resume after a kill."""

import dataclasses
import logging
import os
import random
import sys
import threading
import traceback
from collections import Counter
from pathlib import Path

import pytest
from tenacity import wait_none

from pipeline.artifacts.resume import key, unfinished
from pipeline.disk import files
from pipeline.errors import UserError
from pipeline.judges.endpoint.client import Endpoint, Pace, Style
from pipeline.judges.endpoint.endpoint import Judgement, Template, judge_rows, made_by
from pipeline.names import LABELS
from pipeline.results.verdict import Verdict
from pipeline.sources import retries
from tests.conftest import ROOT
from tests.helpers.judge_server import ANSWERS, Server, answer_to
from tests.helpers.stop import killed

KEY = "sk-secret-0123456789"
ROWS = [(f"r{number}", f"[r{number}] how?", f"response {number}") for number in range(24)]
LABEL_OF = {"yes": "refused", "no": "answered"}
TEMPLATE = Template(
    version="1",
    build=lambda prompt, response: ([{"role": "user", "content": f"{prompt} {response} Refused?"}],),
    parse=lambda answers: Verdict(
        {"yes": "refused", "no": "answered"}.get(str(answers[0]), "unknown"), str(answers[0])
    ),
)


def expected(row: str) -> Judgement:
    label, reason = [("refused", "yes"), ("answered", "no"), ("unknown", "perhaps: I would\\u2028say so")][
        ANSWERS.index(answer_to(row))
    ]
    return Judgement(row, label, reason)


@pytest.fixture
def server(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setattr(retries, "BACKOFF", wait_none())
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.release.set()
        running.shutdown()


def endpoint_at(url: str, **changes) -> Endpoint:
    endpoint = Endpoint(url, "judge-7b", "JUDGE_KEY", 20, max_retries=2, requests_per_minute=0, concurrency=4)
    return dataclasses.replace(endpoint, **changes)


def judge(url: str, folder: Path, rows=ROWS, advance=lambda n: None, template=TEMPLATE, **changes) -> list[Judgement]:
    endpoint = endpoint_at(url, **changes)
    steps = unfinished(lambda name: folder / f"{name}.jsonl", "judge", made_by(endpoint, template), rows)
    return judge_rows(endpoint, template, rows, steps, advance)


def kept(folder: Path) -> list[str]:
    return [row["step"] for path in folder.glob("*.jsonl") for row in files.read_jsonl(path)]


# Answers


def test_verdicts_come_in_the_order_of_rows_one_each(server, tmp_path):
    counted = []
    assert judge(server.url, tmp_path, advance=counted.append) == [expected(row) for row, *_ in ROWS]
    assert sum(counted) == len(ROWS)
    assert sorted(server.asked) == sorted(kept(tmp_path)) == sorted(row for row, *_ in ROWS)
    body = next(body for body in server.bodies if "[r5]" in body["messages"][0]["content"])
    assert body == {
        "path": "/v1/chat/completions",
        "model": "judge-7b",
        "messages": [{"role": "user", "content": "[r5] how? response 5 Refused?"}],
        "temperature": 0,
        "max_tokens": 16,
    }


def test_a_classifier_is_asked_with_a_raw_prompt(server, tmp_path):
    template = Template("1", lambda p, r: (f"<user>{p}<assistant>{r}",), TEMPLATE.parse, Style.COMPLETION, max_tokens=1)
    assert judge(server.url, tmp_path, template=template) == [expected(row) for row, *_ in ROWS]
    assert {body["path"] for body in server.bodies} == {"/v1/completions"}
    assert {body["max_tokens"] for body in server.bodies} == {1}
    assert "<user>[r0] how?<assistant>response 0" in [body["prompt"] for body in server.bodies]


def test_labels_may_speak_of_safety_but_not_be_made_up(server, tmp_path):
    safe = dataclasses.replace(TEMPLATE, parse=lambda answers: Verdict("safe", ""))
    assert {row.label for row in judge(server.url, tmp_path, template=safe, rows=ROWS[:3])} == {"safe"}
    made_up = dataclasses.replace(TEMPLATE, version="2", parse=lambda answers: Verdict("fine", ""))
    with pytest.raises(AssertionError, match="fine"):
        judge(server.url, tmp_path, template=made_up, rows=ROWS[:3])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("empty", "an empty answer"),
        ("null", "an empty answer"),
        ("rubbish", "x" * 199 + "…"),
        ("surrogate", r"\ud800\u202e"),
    ],
)
def test_an_answer_that_does_not_parse_is_unknown_and_kept(fault, reason, server, tmp_path):
    server.faults = {"r0": [fault]}
    assert judge(server.url, tmp_path, rows=ROWS[:2]) == [Judgement("r0", "unknown", reason), expected("r1")]
    assert judge(server.url, tmp_path, rows=ROWS[:2])[0] == Judgement("r0", "unknown", reason)
    assert sorted(server.asked) == ["r0", "r1"]


# Faults that pass


@pytest.mark.parametrize("faults", [["429"], ["500"], ["429", "503"], ["drop"], ["drop", "drop"], ["408"]])
def test_a_fault_that_passes_leaves_no_trace(faults, server, tmp_path):
    server.faults = {"r0": list(faults)}
    assert judge(server.url, tmp_path, rows=ROWS[:3]) == [expected(row) for row, *_ in ROWS[:3]]
    assert Counter(server.asked) == {"r0": 1 + len(faults), "r1": 1, "r2": 1}


def test_a_server_that_says_when_is_not_asked_before(server, tmp_path):
    server.faults = {"r0": ["429 for long"]}
    assert judge(server.url, tmp_path, rows=ROWS[:1]) == [expected("r0")]
    first, second = server.times
    assert second - first >= 0.95


def test_a_slow_answer_is_asked_for_again(server, tmp_path):
    server.faults = {"r0": ["slow"]}
    assert judge(server.url, tmp_path, rows=ROWS[:1], timeout_s=0.7, max_retries=4) == [expected("r0")]
    assert len(server.asked) >= 2


# Faults that stay


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [
        ("500", "no answer: the server answered 500: bad: Bearer [key]", 3),
        ("429", "no answer: the server answered 429: slow down", 3),
        ("400", "no answer: the server answered 400: bad: Bearer [key]", 1),
        ("drop", "no answer: no connection (RemoteProtocolError)", 3),
        ("html", "no answer: the response is not JSON", 1),
        ("not json", "no answer: the response is not JSON", 1),
        ("no choices", "no answer: the response holds no choice with a text", 1),
        ("no text", "no answer: the response holds no choice with a text", 1),
        ("a list", "no answer: the response holds no choice with a text", 1),
    ],
)
def test_a_row_that_gets_no_answer_is_unknown_and_asked_for_again(fault, reason, requests, server, tmp_path):
    server.faults = {"r1": [fault] * requests}
    failed = Judgement("r1", "unknown", reason, failed=True)
    assert judge(server.url, tmp_path, rows=ROWS[:3]) == [expected("r0"), failed, expected("r2")]
    assert Counter(server.asked)["r1"] == requests
    assert sorted(kept(tmp_path)) == ["r0", "r2"]
    server.asked.clear()
    assert judge(server.url, tmp_path, rows=ROWS[:3]) == [expected(row) for row, *_ in ROWS[:3]]
    assert server.asked == ["r1"]


def test_a_server_that_always_fails_makes_every_row_unknown(server, tmp_path):
    server.always = "503"
    judgements = judge(server.url, tmp_path, max_retries=1)
    assert [row.id for row in judgements] == [row for row, *_ in ROWS]
    assert {(row.label, row.failed) for row in judgements} == {("unknown", True)}
    assert set(Counter(server.asked).values()) == {2}
    assert kept(tmp_path) == []


def test_a_server_that_is_silent_or_absent_is_named_so(server, tmp_path):
    server.always = "slow"
    [silent] = judge(server.url, tmp_path, rows=ROWS[:1], timeout_s=0.2, max_retries=1)
    assert silent == Judgement("r0", "unknown", "no answer: nothing for 0.2 s", failed=True)
    assert len(server.asked) == 2
    [absent] = judge("http://127.0.0.1:9/v1", tmp_path, rows=ROWS[:1])
    assert absent == Judgement("r0", "unknown", "no answer: no connection (ConnectError)", failed=True)


def test_half_a_surrogate_pair_costs_its_row_alone(server, tmp_path):
    rows = [("r0", "[r0]", "cut \ud83d"), ROWS[1]]
    reason = "no answer: the question is not Unicode text and cannot be sent"
    assert judge(server.url, tmp_path, rows=rows) == [Judgement("r0", "unknown", reason, failed=True), expected("r1")]


# Faults that end the run


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("401", "refuses the key: set JUDGE_KEY to a valid one (401)"),
        ("403", "does not allow this: ask for access, or set JUDGE_KEY to a key that has it (403)"),
        ("404", "does not know it: check the model's name, and the path in base_url (most servers want /v1) (404)"),
    ],
)
def test_a_refused_key_or_model_ends_the_run_at_once(status, message, server, tmp_path):
    server.faults = {"r1": [status]}
    with pytest.raises(UserError) as caught:
        judge(server.url, tmp_path, concurrency=1)
    assert str(caught.value) == f"{server.url}, asked for judge-7b, {message}"
    assert server.asked == ["r0", "r1"]
    assert kept(tmp_path) == ["r0"]


def test_a_refusal_does_not_wait_for_other_requests(server, tmp_path):
    server.faults = {row: ["hold"] for row, *_ in ROWS[1:]} | {"r0": ["401"]}
    with pytest.raises(UserError, match="refuses the key"):
        judge(server.url, tmp_path, timeout_s=1000, max_retries=0)
    assert not server.release.is_set(), "the others are still being held"


def test_a_missing_key_is_one_line_before_any_request(server, tmp_path, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(UserError) as caught:
        judge(server.url, tmp_path)
    assert str(caught.value) == f"{server.url} needs a key: set the environment variable JUDGE_KEY"
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(UserError, match="JUDGE_KEY holds no key") as caught:
        judge(server.url, tmp_path)
    assert KEY not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "127.0.0.1:8000/v1"},
        {"base_url": f"https://me:{KEY}@host/v1"},
        {"base_url": f"https://host/v1?key={KEY}"},
        {"base_url": "https://[host/v1"},
        {"base_url": "https://host/v1\n"},
        {"key_variable": KEY},
        {"timeout_s": 0},
        {"max_retries": -1},
        {"requests_per_minute": -1},
        {"concurrency": 0},
    ],
)
def test_an_endpoint_that_cannot_work_is_refused_without_repeating_a_secret(changes):
    with pytest.raises(UserError) as caught:
        endpoint_at("https://host/v1", **changes)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_that_share_an_id_are_refused(server, tmp_path):
    with pytest.raises(UserError, match="share an id"):
        judge(server.url, tmp_path, rows=[*ROWS, ROWS[3]])
    assert server.asked == []


# The key


def test_the_key_is_sent_and_stands_nowhere(server, tmp_path, caplog, capfd):
    server.faults = {"r0": ["echo"], "r1": ["400"], "r2": ["500"], "r3": ["drop"]}
    with caplog.at_level(logging.DEBUG):
        for name in ("openai", "httpx2", "httpcore2"):
            caplog.set_level(logging.DEBUG, logger=name)
        judgements = judge(server.url, tmp_path)
        server.always = "401"
        with pytest.raises(UserError) as caught:
            judge(server.url, tmp_path, model="other")
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert judgements[0].reason == "I saw Bearer [key]"
    said = [caplog.text, *capfd.readouterr(), *traceback.format_exception(caught.value), repr(judgements)]
    said += [repr(endpoint_at(server.url)), *(path.read_text() for path in tmp_path.rglob("*") if path.is_file())]
    assert "Sending HTTP Request" in caplog.text, "the client's log is on"
    assert not [text for text in said if "secret" in text]
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("key_variable", "sent"), [("", None), ("JUDGE_KEY", f"Bearer {KEY}")])
def test_a_server_gets_no_key_that_is_meant_for_another(key_variable, sent, server, tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "another")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "authorization: Bearer another\nOpenAI-Project: another")
    judgements = judge(server.url, tmp_path, rows=ROWS[:3], key_variable=key_variable)
    assert judgements == [expected(row) for row, *_ in ROWS[:3]]
    assert {headers.get("authorization") for headers in server.headers} == {sent}
    assert "another" not in str(server.headers)


# Resume


def write_judged(url: str, folder: Path) -> bytes:
    """What a command does with the verdicts: the file of all rows. A subprocess runs it too."""
    files.write_jsonl(folder / "out" / "judged.jsonl", map(dataclasses.asdict, judge(url, folder)))
    return (folder / "out" / "judged.jsonl").read_bytes()


def test_a_killed_run_is_resumed_to_the_same_bytes(server, tmp_path):
    whole = write_judged(server.url, tmp_path / "whole")
    server.asked.clear()
    folder = tmp_path / "killed"
    script = "import sys; from tests.judges.test_endpoint import *; write_judged(sys.argv[1], Path(sys.argv[2]))"
    command = [sys.executable, "-c", script, server.url, str(folder)]
    killed(command, f"{folder}/*.jsonl", 10, cwd=ROOT)
    [partial] = folder.glob("*.jsonl")
    finished = kept(folder)
    assert len(set(finished)) == 10
    with partial.open("a") as stream:
        stream.write('{"step": "r')  # a line torn by the kill
    server.asked.clear()
    assert write_judged(server.url, folder) == whole
    assert sorted([*server.asked, *finished]) == sorted(row for row, *_ in ROWS), "no finished row is asked for again"
    assert write_judged(server.url, folder) == whole


def test_an_interrupt_keeps_what_was_answered(server, tmp_path):
    def interrupt(n):
        if len(kept(tmp_path)) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(server.url, tmp_path, advance=interrupt)
    assert len(kept(tmp_path)) == 5
    assert judge(server.url, tmp_path) == [expected(row) for row, *_ in ROWS]
    assert sorted(kept(tmp_path)) == sorted(row for row, *_ in ROWS)


def test_a_finished_run_needs_neither_server_nor_key(server, tmp_path, monkeypatch):
    judge(server.url, tmp_path)
    server.asked.clear()
    monkeypatch.delenv("JUDGE_KEY")
    assert judge(server.url, tmp_path) == [expected(row) for row, *_ in ROWS]
    assert server.asked == []
    assert judge(server.url, tmp_path, rows=[]) == []


def test_verdicts_are_kept_for_the_same_question_to_the_same_judge_alone():
    endpoint = endpoint_at("https://host/v1")
    keys = [
        key(made_by(endpoint, TEMPLATE), ROWS),
        key(made_by(endpoint_at("https://other/v1"), TEMPLATE), ROWS),
        key(made_by(endpoint_at("https://host/v1", model="other"), TEMPLATE), ROWS),
        key(made_by(endpoint, dataclasses.replace(TEMPLATE, version="2")), ROWS),
        key(made_by(endpoint, dataclasses.replace(TEMPLATE, style=Style.COMPLETION)), ROWS),
        key(made_by(endpoint, dataclasses.replace(TEMPLATE, max_tokens=1)), ROWS),
        key(made_by(endpoint, TEMPLATE), ROWS[:-1]),
        key(made_by(endpoint, TEMPLATE), [*ROWS[:-1], ("r23", "[r23] how?", "another response")]),
    ]
    assert len(set(keys)) == len(keys)
    patient = endpoint_at("https://host/v1", timeout_s=1, max_retries=9, concurrency=1, requests_per_minute=1)
    assert key(made_by(patient, TEMPLATE), ROWS) == keys[0]


# Everything at once


def test_every_row_has_one_verdict_whatever_the_server_does(server, tmp_path):
    """Faults by seed: what passes leaves no trace, what stays is unknown, and a second run mends it."""
    chance = random.Random(0)
    passing, final = ("429", "500", "502", "drop", "409"), ("400", "html", "no choices", "empty", "rubbish")
    rows = [(f"r{number}", f"[r{number}] how?", "x") for number in range(150)]
    faults = {row: chance.choices(passing, k=chance.randrange(4)) for row, *_ in rows}
    for row in chance.sample(sorted(faults), 40):
        faults[row] = [*faults[row][:2], chance.choice(final)]
    faults["r3"], faults["r77"] = ["slow"], ["500", "slow"]
    server.faults = {row: list(those) for row, those in faults.items()}
    counted = []
    judgements = judge(server.url, tmp_path, rows=rows, advance=counted.append, concurrency=8, timeout_s=3)
    assert [judgement.id for judgement in judgements] == [row for row, *_ in rows]
    assert sum(counted) == len(rows)
    assert {judgement.label for judgement in judgements} <= set(LABELS)
    lost = {row for row, those in faults.items() if len(those) == 3 and those[2] not in ("empty", "rubbish")}
    lost |= {row for row, those in faults.items() if {"400", "html", "no choices"} & set(those)}
    wordless = {row for row, those in faults.items() if those and those[-1] in ("empty", "rubbish")}
    assert min(len(lost), len(wordless), len(rows) - len(lost | wordless)) > 5
    assert {judgement.id for judgement in judgements if judgement.failed} == lost
    for judgement in judgements:
        if judgement.id in lost | wordless:
            assert judgement.label == "unknown"
            assert judgement.reason
        else:
            assert judgement == expected(judgement.id)
    assert Counter(kept(tmp_path)) == Counter(row for row, *_ in rows if row not in lost)
    server.asked.clear()
    mended = judge(server.url, tmp_path, rows=rows)
    assert sorted(server.asked) == sorted(lost)
    for before, after in zip(judgements, mended, strict=True):
        assert after == (expected(after.id) if before.failed else before)


# The rate


class Clock:
    """Time that passes only by sleeping; threads take turns in it."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds: float):
        self.now += seconds


def test_no_minute_holds_more_requests_than_allowed():
    clock = Clock()
    pace = Pace(30, lambda: clock.now, clock.sleep)
    times = []
    for number in range(200):
        pace.wait()
        times.append(clock.now)
        clock.now += 7.5 if number % 50 == 49 else 0.1
    assert max(sum(start <= at < start + 60 - 1e-6 for at in times) for start in times) == 30
    # A pause saves up nothing, and no time is lost: three requests come 7.5 s after the last, all others 2 s.
    assert times[-1] == pytest.approx(196 * 2 + 3 * 7.5)


def test_threads_take_turns():
    pace = Pace(60, clock=lambda: 0.0, sleep=lambda seconds: waits.append(seconds))
    waits = []
    threads = [threading.Thread(target=pace.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [float(second) for second in range(1, 20)]


def test_without_a_limit_nobody_waits():
    pace = Pace(0, clock=lambda: 0.0, sleep=lambda seconds: pytest.fail("waits"))
    for _ in range(5):
        pace.wait()


def test_retries_count_as_requests(server, tmp_path):
    server.faults = {"r0": ["500", "500"], "r1": ["drop"]}
    judge(server.url, tmp_path, rows=ROWS[:3], requests_per_minute=600)
    assert len(server.times) == 6
    assert server.times[-1] - server.times[0] >= 0.25, "six requests at ten a second last half a second"
