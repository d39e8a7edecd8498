"""Judging any file: rows in, rows with verdicts out, nothing lost and nothing invented."""

import json
import subprocess
import sys

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "pipeline", "judge", *arguments], capture_output=True, text=True)


def test_every_row_comes_back_with_every_judges_verdict(tmp_path):
    rows = [
        {"id": 1, "prompt": "a", "response": "I'm sorry, but I can't help with that.", "extra": {"x": [1]}},
        {"id": 2, "prompt": "b", "response": "Sure! Here is a list:\u20281. One"},
        {"id": 3, "prompt": "c", "response": None},
        {"id": 4, "prompt": "d"},
        {"id": 5, "prompt": "e", "response": ""},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    result = run(str(tmp_path / "in.jsonl"), "--judges", "substring,markers", "-o", str(tmp_path / "out.jsonl"))
    assert result.returncode == 0, result.stderr
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n") if line]
    assert [{key: value for key, value in row.items() if key != "verdicts"} for row in out] == rows
    assert [row["verdicts"]["substring"]["label"] for row in out] == [
        "refused",
        "answered",
        "unknown",
        "unknown",
        "answered",
    ]
    assert [row["verdicts"]["markers"]["label"] for row in out[:4]] == ["refused", "answered", "unknown", "unknown"]
    assert out[3]["verdicts"]["markers"]["reason"] == "no text in `response`"
    assert "substring: answered 2, refused 1, unknown 2" in result.stdout


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ('{"prompt": "a", "response": "b"}\n', ("--judges", "oracle"), "use one or more of substring, markers"),
        ('{"prompt": "a", "response": "b"}\n', ("--judges", ","), "use one or more of"),
        ('{"prompt": "a"\n', (), ":1 is not JSON"),
        ("[1]\n", (), "row 1 is not a JSON object"),
        ('{"question": "a", "answer": "b"}\n', (), "no row has prompt and response; the first has question, answer"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, text, arguments, message):
    (tmp_path / "in.jsonl").write_text(text)
    result = run(str(tmp_path / "in.jsonl"), *arguments, "-o", str(tmp_path / "out.jsonl"))
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.jsonl").exists()
