"""Progress counts work done: all of what was promised, within a pass, and without a say in any number."""

import re
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from rich.console import Console

from pipeline import progress
from pipeline.entry import bars
from pipeline.export.model import equivalence
from pipeline.loss import model as loss
from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation
from pipeline.model import batching
from pipeline.model.generation import generation
from pipeline.model.loading import loading
from pipeline.model.loading.random_model import write_random_model
from pipeline.model.passes import forward, scoring, ticking, tracing
from pipeline.suffix.model import heads, restore
from tests.conftest import FAMILY, INSTRUCTIONS, OPTIONS, ROOT

TOKENS = torch.tensor([5, 9])


class Counted:
    """Adds up, and keeps what it heard."""

    def __init__(self):
        self.steps: list[float] = []

    def __call__(self, n):
        self.steps.append(n)

    @property
    def total(self):
        return sum(self.steps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_random_model(folder, "qwen2", 0, OPTIONS)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return loading.load("tiny", folder, FAMILY, "float32", "cpu")


@pytest.fixture
def prompts(model):
    return model.encode(INSTRUCTIONS)


@pytest.fixture(autouse=True)
def unannounced():
    yield
    bars.announce("", "")


def passes(model, prompts, direction):
    """{name: (run with a callback, what it promises)} of everything that runs the model for long."""
    passages = [loss.Passage(tuple(tokens[:4]), tuple(tokens[4:])) for tokens in prompts]
    split = forward.Split.of(model, prompts)
    work = scoring.Work.of(model, prompts[:2], prompts[2:])
    validation = scoring.prepare(model, prompts[:2], prompts[2:], TOKENS, 60)
    others = [Direction(direction.vector + i, layer, -1) for i, layer in enumerate((1, 3))]
    ablation = DirectionalAblation(direction)
    addition = ActivationAddition(direction)
    jobs, sizes = [(state, row) for state in range(2) for row in range(5)], (6, 3)
    restorations = [None, restore.HeadOutputs(((0, 1), (2, 0)), 2)]
    r_hat = direction.r_hat
    return {
        "last_logits": (lambda p: forward.last_logits(model, prompts, 60, p), forward.n_tokens(model, prompts)),
        "unchanged": (lambda p: forward.unchanged(model, split, 60, p)[0], forward.unchanged_tokens(split)),
        "prepare": (
            lambda p: scoring.prepare(model, prompts[:2], prompts[2:], TOKENS, 60, p).harmful_metric,
            work.unchanged,
        ),
        "score": (
            lambda p: scoring.score(model, ablation, addition, validation, 60, p),
            work.interventions([ablation], [addition]),
        ),
        "score_directions": (
            lambda p: scoring.score_directions(model, others, validation, 1.0, 300, p),
            work.directions(others),
        ),
        "resid_pre_moments": (
            lambda p: tracing.resid_pre_moments(model, prompts, 3, 60, p)[0].mean,
            tracing.n_tokens_run(model, prompts, 3),
        ),
        "resid_pre_at": (
            lambda p: tracing.resid_pre_at(model, prompts, [(-1, 0), (-2, 3)], 60, p),
            tracing.n_tokens_run(model, prompts, len(model.post_instruction)),
        ),
        "first layer": (lambda p: tracing.resid_pre(model, prompts, 2, [0], p), ticking.n_tokens(prompts)),
        "passage_losses": (lambda p: loss.passage_losses(model, passages, 60, p), loss.n_tokens(passages)),
        "generate": (
            lambda p: list(generation.generate(model, prompts, ablation, *sizes, progress=p)),
            generation.n_tokens(model, prompts, *sizes),
        ),
        "generate_jobs": (
            lambda p: list(generation.generate_jobs(model, prompts, [None, ablation], jobs, *sizes, progress=p)),
            generation.job_tokens(model, prompts, 2, jobs, *sizes),
        ),
        "resumed": (
            lambda p: list(generation.generate(model, prompts, None, *sizes, done={0, 1, 2}, progress=p)),
            generation.n_tokens(model, prompts, *sizes, done={0, 1, 2}),
        ),
        "compare": (
            lambda p: equivalence.compare(model, model, prompts[:2], direction, 3, 60, p),
            equivalence.compare_tokens(model, prompts[:2], 3),
        ),
        "heads": (
            lambda p: [row.heads for row in heads.last_tokens(model, prompts, r_hat, 60, p)],
            ticking.n_tokens(prompts),
        ),
        "restored": (
            lambda p: restore.restored(model, prompts, prompts, restorations, lambda x: x[:, 5], 60, p),
            restore.restored_tokens(model, prompts, prompts, len(restorations)),
        ),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def test_every_pass_does_the_work_that_it_promises_and_computes_the_same(model, prompts, direction):
    before = [len(block._forward_hooks) for block in model.sites.blocks]
    for name, (run, promised) in passes(model, prompts, direction).items():
        heard = Counted()
        assert same(run(heard), run(ticking.silent)), name
        assert heard.total == pytest.approx(promised), name
        assert promised > 0, name
        assert min(heard.steps) > 0, name
    assert [len(block._forward_hooks) for block in model.sites.blocks] == before, "no hook is left"


def test_a_pass_is_counted_while_it_runs(model, prompts):
    """One batch: a step for each block at least, none of them large."""
    longest = max(prompts, key=len)
    for run in (
        lambda p: forward.last_logits(model, [longest], 10_000, p),
        lambda p: tracing.resid_pre(model, [longest], 3, progress=p),
    ):
        heard = Counted()
        run(heard)
        assert len(heard.steps) >= model.n_layers
        assert max(heard.steps) <= len(longest) / model.n_layers + 1e-9


def test_work_that_memory_did_not_hold_is_taken_back_and_counted_again(model, prompts, monkeypatch):
    monkeypatch.setattr(batching, "should_reduce_batch_size", lambda error: True)
    block, calls = model.sites.blocks[2], []

    def refuse(_module, args):
        calls.append(len(args[0]))
        if calls[-1] > 2:
            raise RuntimeError("no memory")

    handle = block.register_forward_pre_hook(refuse)
    for run, promised in (
        (lambda p: forward.last_logits(model, prompts, 10_000, p), forward.n_tokens(model, prompts)),
        (
            lambda p: list(generation.generate(model, prompts, None, 4, 5, progress=p)),
            generation.n_tokens(model, prompts, 4, 5),
        ),
    ):
        heard = Counted()
        run(heard)
        assert min(heard.steps) < 0, "what had been counted is taken back"
        assert heard.total == pytest.approx(promised)
    handle.remove()
    assert max(calls) > 2


def test_loading_tells_of_weights_and_checks(folder):
    told = {}

    def watch(step, total, unit):
        told[step] = (total, unit, Counted())
        return Watched(told[step][2])

    loading.load("tiny", folder, FAMILY, "float32", "cpu", watch=watch)
    assert set(told) == {"reading weights", "checking the model"}
    for total, _, heard in told.values():
        assert heard.total == pytest.approx(total)
        assert len(heard.steps) > 4


class Watched:
    def __init__(self, heard):
        self.heard = heard

    def __enter__(self):
        return self.heard

    def __exit__(self, *_):
        return None


# What is shown


def lines(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_lines_name_stage_step_count_time_left_and_what_follows(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bars.announce("7/23 scores", "direction")
    with progress.progress("unchanged model", 80_000) as bar:
        bar(1000.4)
        now[0] += 1
        bar(1000)
        bar.step("candidates x prompts")
        for _ in range(10):
            now[0] += 0.5
            bar(1799.96)
        bar.total(40_000)
        bar(1e9)
    now[0] += 100
    assert lines(capsys) == [
        "7/23 scores: unchanged model 0/80,000 tokens, then direction",
        "7/23 scores: candidates x prompts 2,000/80,000 tokens, 0:39 left, then direction",
        "7/23 scores: candidates x prompts 9,200/80,000 tokens, 0:23 left, then direction",
        "7/23 scores: candidates x prompts 16,400/80,000 tokens, 0:19 left, then direction",
        "7/23 scores: candidates x prompts 40,000/40,000 tokens, in 0:06, then direction",
    ]


def test_what_was_done_before_counts_for_no_speed(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress("answers", 100, "row", done=90) as bar:
        now[0] = 5.0
        bar(5)
    assert lines(capsys) == ["answers 90/100 rows", "answers 95/100 rows, 0:05 left"]


def test_a_slow_thing_shows_parts(capsys):
    with progress.progress("choices", 3, "choice") as bar:
        bar(0.25)
    assert [line.split(", in")[0] for line in lines(capsys)] == ["choices 0/3 choices", "choices 0.2/3 choices"]


def test_notes_name_the_stage(capsys):
    progress.note("opening the model [x]")
    bars.announce("1/23 engine", "prompts")
    progress.note("fetching")
    assert lines(capsys) == ["opening the model [x]", "1/23 engine: fetching"]


def test_clock():
    assert [bars.clock(s) for s in (0, 59.6, 72, 7272)] == ["0:00", "1:00", "1:12", "2:01:12"]


class Terminal:
    """A stream that says it is one."""

    def __init__(self, stream):
        self.stream = stream

    def isatty(self):
        return True

    def __getattr__(self, name):
        return getattr(self.stream, name)


def on_terminal(monkeypatch):
    console = Console(stderr=True, force_terminal=True, width=160, markup=False, highlight=False)
    monkeypatch.setattr(bars, "_console", lambda: console)
    monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr))


def test_brackets_are_shown_as_they_are(monkeypatch, capsys):
    with progress.progress("heads [red]x[/red]", 10) as bar:
        bar(1)
    assert "heads [red]x[/red] 0/10 tokens" in lines(capsys)
    on_terminal(monkeypatch)
    bars.announce("3/23 [x]", "[bold]")
    with progress.progress("heads [red]x[/red]", 12_000) as bar:
        bar(3000)
        bar.step("then [/y]")
        progress.note("a [z] note")
    shown = capsys.readouterr().err
    titles = ("3/23 [x]: heads [red]x[/red]", "3/23 [x]: then [/y]")
    for text in (*titles, "3,000/12,000 tokens", "then [bold]", "a [z] note"):
        assert text in shown


def test_a_bar_inside_a_bar(monkeypatch, capsys):
    on_terminal(monkeypatch)
    with progress.progress("outer", 10), progress.download_bar("inner", None) as bar:
        bar(2000)
    shown = capsys.readouterr().err
    assert "outer" in shown
    assert "2.0 kB" in shown


def test_a_slow_pass_shows_another_count_at_least_every_two_and_a_half_seconds(model, prompts, capsys):
    """Each block takes 0.6 s, so that a pass of four takes 2.4 s and the whole seven."""
    slow = [block.register_forward_hook(lambda *_: time.sleep(0.6)) for block in model.sites.blocks]
    began, shown = time.monotonic(), []

    def heard(line):
        shown.append((time.monotonic() - began, line))

    with progress.progress("slow", forward.n_tokens(model, prompts)) as bar:
        see = bar._show

        def show(at_once):
            see(at_once)
            if text := capsys.readouterr().err:
                heard(text)

        bar.watch(show)
        forward.last_logits(model, prompts, 60, bar)
    for handle in slow:
        handle.remove()
    times = [0.0, *(at for at, _ in shown), time.monotonic() - began]
    assert max(b - a for a, b in pairwise(times)) < 2.7
    counts = [count for _, text in shown for count in re.findall(r"slow ([\d,]+)/", text)]
    assert len(set(counts)) == len(counts) >= 2


def test_the_module_is_imported_without_a_library():
    code = "import sys, pipeline.progress; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"rich", "torch", "tqdm"} & set(loaded.stdout.split())
