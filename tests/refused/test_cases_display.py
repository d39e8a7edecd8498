"""What is shown of text that the project did not write: titles, names, prompts, what a model or a server said."""

import ast
import html
import io
import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from pipeline import printed
from pipeline.artifacts.provenance import stamp
from pipeline.bench.run import table as bench_table
from pipeline.bench.timing import Row
from pipeline.commands import agreement as judge_report
from pipeline.commands import gate
from pipeline.disk import files
from pipeline.display import LINE, TITLE, code, markdown, mathless, plain
from pipeline.entry.bars import announce, title
from pipeline.entry.program import guarded, quiet_libraries
from pipeline.errors import UserError, first_line
from pipeline.export import card
from pipeline.maths.labels import Label
from pipeline.maths.selection import CandidateScores
from pipeline.progress import Bar, note, progress
from pipeline.published import tables as golden
from pipeline.report.figures import claim as figures
from pipeline.report.figures import estimators as estimator_figures
from pipeline.report.figures import marks
from pipeline.report.figures import other_effects as further_figures
from pipeline.report.figures import selection as selection_figures
from pipeline.report.figures import stability as stability_figures
from pipeline.report.figures import suffix as suffix_figures
from pipeline.report.tables import claim as report
from pipeline.report.tables import suffix as suffix_tables
from pipeline.results.metrics_file import as_record, of_record
from pipeline.results.suffix import Suffix
from tests.conftest import ROOT
from tests.helpers.cases import Cases, fails, quietly
from tests.helpers.committed import committed
from tests.helpers.suffix import planted

cases = Cases("What is shown")

ESCAPE, BELL, NUL = "\x1b", "\x07", "\x00"
RTL, ISOLATE, ZERO_WIDTH, JOINER = "\u202e", "\u2066", "\u200b", "\u200d"
HOSTILE = (
    "$x_{",
    "$\\frac{1}$ and $ $",
    "costs 5$",
    "\\$x_{\\$ $",
    f"{ESCAPE}[31mred{ESCAPE}[2J{ESCAPE}]0;title{BELL}",
    f"abc{RTL}gnp.exe{ISOLATE}{ZERO_WIDTH}{JOINER}\ufeff",
    f"{NUL}\r\x08\x0b\x85\u2028\u2029\ud800\udfff\uffff",
    "</script><script>alert(1)</script><b>&lt;&amp;",
    "a | b || c \\| d ` e `` f ``` g",
    "**bold** _slanted_ ~~out~~ [link](javascript:alert(1)) ![image](x) <http://x.y> $m$",
    "[bold]x[/bold] [/INST] [red] :smile: \\",
    "---\nbase_model: other\n---\n# heading",
    "key: value # comment",
    "{a: [b",
    "&anchor *alias !tag %x @y '\"",
    "two\nlines\n\n| a | b |\n|---|---|",
    "",
    " ",
    "no",
    "1.5",
    "\u2066\u6a21\u578b \U0001f600 e\u0301 \u0627\u0644",
    "$x_{ | < \n" * 12_500,
    "W" * 100_000,
)
# One text of everything at once, and a long one, for what takes long to draw.
MIXED = (f"$x_{{ {ESCAPE}[31m{RTL}{ZERO_WIDTH}\n\ud800</script> | ` $", HOSTILE[-2])
ORDINARY = ("Qwen2.5-Coder-0.5B-Instruct (Q4_K_M)", "Qwen/Qwen-1_8B-Chat", "harmful, baseline", "Qwen3-8B (thinking)")


def one_printable(text: str, limit: int = LINE) -> None:
    """`text` is one line that moves no cursor and is not longer than `limit`."""
    assert text.isprintable(), repr(text[:200])
    assert len(text) <= limit, len(text)


def printable_lines(text: str) -> None:
    """Every line is printable, and can be written as UTF-8."""
    assert all(line.isprintable() for line in text.split("\n")), repr(text[:500])
    text.encode()


def drawn(figure: Figure) -> list[str]:
    """Every text of a figure that matplotlib has really drawn; none of it is a formula, or has a control character."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet_libraries()
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        figure.savefig(io.BytesIO(), format="png", dpi=20)
    texts: list[str] = [found.get_text() for found in figure.findobj(Text)]  # pyright: ignore[reportAttributeAccessIssue]
    assert not [text for text in texts if is_math_text(text)]
    for line in (line for text in texts for line in text.split("\n")):
        one_printable(line, 2 * LINE)
    return texts


def hostile_metrics(text: str) -> dict[str, Any]:
    """Committed metrics in which every name and title from outside is this text."""
    metrics = json.loads(committed("standard").metrics.read_text(encoding="utf-8"))
    name = re.sub("[._@]", "-", text) or "empty"  # these separate the parts of a label
    renamed = json.dumps(metrics).replace("contrast-safe_", "SET_").replace("@safety_", "@SYSTEM_")
    quoted = json.dumps(name)[1:-1]
    metrics = json.loads(renamed.replace("SET_", f"{quoted}_").replace("@SYSTEM_", f"@{quoted}_"))
    metrics["title"] = metrics["judge"] = metrics["reason"] = text
    metrics["reference"] = {"from": text, "position": -1, "layer": 1}
    metrics["export"] |= {"exported": False, "reason": text}
    metrics["systems"]["not_measured"] = {name: text}
    metrics["refusal_tokens"] |= {"used": text, "difference": None, "note": text}
    for row in metrics["refusal_tokens"]["lists"].values():
        row["tokens"] = [text]
    tasks = metrics["capability"]["tasks"]
    tasks[text] = {**tasks.pop("piqa"), "source": text, "metric": text}
    metrics["provenance"] |= {"data": text, "device": text}
    return metrics


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_shown_as_it_is(text):
    assert plain(text) == mathless(text) == markdown(text) == text
    assert code(text) == f"`{text}`"
    assert str(UserError(text)) == str(printed.words(text)) == text


def test_titles_and_names_of_the_models_at_hand_are_ordinary_text():
    for path in (ROOT / "conf/model").glob("*.yaml"):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key in ("title", "base_model", "licence"):
            assert plain(values[key]) == mathless(values[key]) == markdown(values[key]) == values[key], path


@cases(
    "X01", "a text with control characters, bidi overrides, lone surrogates, or of 100 kB", "escapes; both ends of it"
)
def _():
    assert plain("a\n\x1b[31m\u202e\ud800\\n") == "a\\n\\x1b[31m\\u202e\\ud800\\n"
    assert plain("head" + "x" * 100_000 + "tail", 20) == "headxxxxxxxx…xxxtail"
    for text in HOSTILE:
        one_printable(plain(text))
        assert plain(plain(text)) == plain(text)
    for limit in range(1, 8):
        assert len(plain("x" * 9, limit)) == limit


@cases("X02", "a model's title, a judge or a token with `$x_{`", "a figure with the dollars in it, no traceback")
def _():
    for text in HOSTILE:
        drawn(marks.message(f"verdict: {text}", text, plain(text)))
    for text in MIXED:
        metrics = of_record(hostile_metrics(text))
        scores, line = metrics.refusal_score, stamp(as_record(metrics.provenance))
        rows = [CandidateScores(-1, 0, 1.0, 2.0, 0.1), CandidateScores(-2, 1, 1.0, 2.0, 0.1)]
        made = {
            "refusal": figures.score_bars(scores, {}, "Refusal", "refused", text, text, line),
            "length": figures.refusal_by_length(metrics.by_length, text, text, line),
            "selection": selection_figures.selection_heatmaps(rows, rows[0], (1.0, 2.0), [text, text], text, line),
            "estimators": estimator_figures.panels(
                {text: {}},
                {kind: scores[Label(kind, "baseline")] for kind in ("harmful", "harmless")},
                {"ablation": [], "addition": []},
                {text: {}},
                None,
                text,
                text,
                line,
            ),
            **further_figures.figures(metrics, line),
        }
        for name, figure in made.items():
            texts = drawn(figure)
            assert any(mathless(text) in shown for shown in texts), (name, text[:50])


@cases("X03", "the same in what the stability and the suffix of a run are drawn from", "figures, no traceback")
def _():
    stability = files.read_json(committed("standard").metrics.with_name("stability.json"))
    for text in MIXED:
        drawn(stability_figures.stability_panels(stability, [text] * 5, text, plain(text)))
        halves = {**stability, "split_half_cosine": {"note": text}}
        drawn(stability_figures.stability_panels(halves, [text] * 5, text, plain(text)))
        hostile = hostile_suffix(text).measured
        assert hostile is not None
        for figure in suffix_figures.figures(hostile, text, plain(text)).values():
            drawn(figure)


def hostile_suffix(text: str) -> Suffix:
    """Planted suffixes whose every text is this one."""
    found = planted().measured
    assert found is not None
    analyses = {}
    for name, one in found.analyses.items():
        effect = replace(one.effect, verdict=text, reason=text, target=text)
        search = replace(one.searches[0], target=text, dtype=text)
        tried = [replace(row, sha256=text) for row in one.tried]
        analyses[name] = replace(one, effect=effect, searches=[search] * 2, tried=tried)
    return Suffix(text, text, replace(found, source=text, made_for=text, judge=text, analyses=analyses))


@cases("X04", "a letter that the figures' font lacks", "a box in its place, and no warning on the terminal")
def _():
    drawn(marks.message("\u6a21\u578b \U0001f600", "\u6a21\u578b", ""))


@cases("X05", "titles, sets, tasks, tokens, reasons of any text in a run's results", "its tables, and its report.txt")
def _(tmp_path):
    whole = committed("standard").report.read_text()
    for text in HOSTILE:
        path = tmp_path / "metrics.json"
        files.write_json(path, hostile_metrics(text))
        for name in ("stability", "invariance"):
            files.write_json(
                path.with_name(f"{name}.json"),
                {**files.read_json(committed("standard").metrics.with_name(f"{name}.json"))},
            )
        shown = report.text(path)
        printable_lines(shown)
        assert len(shown) < 3 * len(whole), len(shown)


@cases("X06", "words in brackets or between colons, which rich takes for styles and pictures", "the words in the table")
def _():
    for text in HOSTILE:
        console = Console(width=5000, file=io.StringIO(), color_system=None)
        shown = printed.table(text, text)
        shown.add_row(text)
        shown.caption = printed.caption(text, text)
        console.print(shown)
        assert isinstance(console.file, io.StringIO)
        lines = console.file.getvalue()
        printable_lines(lines)
        assert not text.strip() or lines.count(plain(text, printed.CELL).strip()) == 5, text[:50]


@cases("X07", "such text in the tables of suffixes, judges, published results and benchmarks", "the tables as they are")
def _():
    for text in HOSTILE:
        made = [
            *suffix_tables.tables(hostile_suffix(text)),
            *suffix_tables.tables(Suffix(text or "none", text)),
            *judge_report.tables({text: ["refusal", "compliance"], "other": ["refusal", "refusal"]}),
            bench_table([Row(text, text, 1.0, text)], text),
        ]
        for table in made:
            console = Console(width=140, file=io.StringIO(), color_system=None)
            console.print(table)
            assert isinstance(console.file, io.StringIO)
            printable_lines(console.file.getvalue())
    assert isinstance(golden.checks_table([]), printed.Shown)


@cases("X08", "any text as title, base model, licence or source of an export", "a card whose metadata is YAML")
def _(tmp_path):
    for text in HOSTILE:
        metadata, body = _card(tmp_path / "README.md", text)
        assert yaml.safe_load(metadata) == {
            "base_model": plain(text),
            "license": plain(text),
            "library_name": "transformers",
            "tags": ["interpretability", "refusal-direction", "research-only"],
        }
        printable_lines(body)


@cases("X09", "HTML, links, bars, backticks and formulas in them", "the card's text as it was given, and its one table")
def _(tmp_path):
    structure = _shape(_card(tmp_path / "README.md", "ordinary")[1])
    for text in (text for text in HOSTILE if text.strip()):
        body = _card(tmp_path / "README.md", text)[1]
        assert "<" not in body.replace(code(text), ""), text[:50]
        assert _shape(body) == structure, text[:50]
        rendered = _rendered(body)
        [heading] = re.findall("<h1>(.*)</h1>", rendered)
        wanted = f"{plain(text, TITLE)}, refusal direction removed from the weights"
        assert html.unescape(heading) == wanted.strip(), text[:50]
        [pinned] = re.findall("<td><code>(.*)</code></td>\n</tr>\n<tr>\n<td>direction</td>", rendered)
        assert html.unescape(pinned).strip() == plain(text).strip() or len(text) > 1000, text[:50]


@cases("X10", "a note on anything, at any stage", "one printable line of at most 500 characters")
def _():
    for text in HOSTILE:
        announce(f"7/23 {text}", text)
        try:
            printed = quietly(lambda text=text: note(text))
            bar = quietly(lambda text=text: _count(text))
            one_printable(title(Bar(text, 1, "token", 0)))
        finally:
            announce("", "")
        assert printed.endswith("\n")
        one_printable(printed.removesuffix("\n"))
        for line in bar.removesuffix("\n").split("\n"):
            one_printable(line)


@cases("X11", "a step of any name on a terminal", "a bar in which only the terminal's own escapes are")
def _(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    for text in HOSTILE:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        _count(text)
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", terminal.getvalue())
        printable_lines(shown)
        assert f"{ESCAPE}[2J" not in terminal.getvalue()


@cases("X12", "an error about any text", "one printable line of at most 500 characters and status 1")
def _():
    for text in HOSTILE:
        one_printable(str(UserError(text)))
        one_printable(f"{UserError(f'{text}: {UserError(text)}')}")
        one_printable(first_line(ValueError(text)))
        one_printable(first_line(UserError(text)))

        def fail(text: str = text) -> None:
            raise UserError(f"'{text}' is no model: name one of conf/model/")

        with pytest.raises(SystemExit) as ended:
            guarded(fail)
        shown = str(ended.value)
        one_printable(shown, LINE + len("error: "))
        assert shown.startswith("error: '"), shown[:50]
        assert shown.endswith("' is no model: name one of conf/model/"), "what to do is kept"
    assert first_line(ValueError("")) == first_line(ValueError(" \n")) == "ValueError"


@cases("X13", "a command on a file with escapes and line breaks in its name", "an error on one printable line")
def _(tmp_path):
    path = tmp_path / f"{ESCAPE}[31m{RTL}\n$x_{{.jsonl"
    command = [sys.executable, "-m", "pipeline", "agreement", str(path)]
    fails(subprocess.run(command, cwd=ROOT, capture_output=True, text=True), r"\\x1b\[31m\\u202e\\n")
    path.write_text("{}\n")
    fails(subprocess.run(command, cwd=ROOT, capture_output=True, text=True), r"\\x1b\[31m.*no verdicts")


@cases("X14", "such text in a condition that the gate compares", "a FAIL line for it, and only that line")
def _(monkeypatch):
    for text in HOSTILE:
        monkeypatch.setattr("pipeline.graph.runs.runs_of", lambda _: [])
        monkeypatch.setattr("pipeline.graph.runs.every_run", list)
        monkeypatch.setattr("pipeline.regression.baseline.baseline_runs", list)
        monkeypatch.setattr("pipeline.regression.baseline.check", lambda *_, text=text: [f"{text} was not measured"])
        monkeypatch.setattr(sys, "argv", ["gate"])
        printed = io.StringIO()
        monkeypatch.setattr(sys, "stdout", printed)
        with pytest.raises(SystemExit):
            gate.main()
        monkeypatch.setattr(sys, "stdout", sys.__stdout__)
        one_printable(printed.getvalue().removesuffix("\n"))


def _count(text: str) -> None:
    with progress(text, 10) as bar:
        bar(5)
        bar.step(f"{text} again")
        bar(5)


def _card(path: Path, text: str) -> tuple[str, str]:
    """Metadata and body of a card of this text."""
    direction: Any = type("Direction", (), {"position": -1, "layer": 7})
    card.write(path, card.Facts(text, text, text, text, direction, True, 9, 9, None))
    start, metadata, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert start == ""
    return metadata, body


def _rendered(body: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(body)


def _shape(body: str) -> list[str]:
    """The tags of the rendered card, in order."""
    return re.findall(r"</?\w+", _rendered(body))


def _trees() -> dict[str, ast.AST]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in (ROOT / "pipeline").rglob("*.py")}


def test_every_table_is_one_that_shows_its_text_as_it_is():
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "Table", f"{path}:{node.lineno}: use printed.Shown"
            if isinstance(node, ast.Assign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Attribute) and target.attr == "caption" for target in targets):
                    made = ast.unparse(node.value).startswith("printed.caption(")
                    assert isinstance(node, ast.Assign), f"{path}:{node.lineno}: a caption is made at once"
                    assert made, f"{path}:{node.lineno}: use printed.caption"


def test_no_figure_has_a_name_that_matplotlib_could_take_for_a_formula():
    for path, tree in _trees().items():
        if "report/figures" not in path:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
                assert node.value.id not in ("title", "task", "token"), f"{path}:{node.lineno}: use mathless"


test_cases = cases.test()
