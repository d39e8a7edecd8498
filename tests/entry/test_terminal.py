"""What a person sees: on a terminal no three seconds pass without a changed count or a newly named step."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from pipeline.entry.bars import Named
from pipeline.stages import __main__ as stages
from tests.helpers.graph import RUN, Project

pytestmark = pytest.mark.alone

# Each block of the first three passes of a process takes 0.6 s: a pass of five is as long as silence may be.
SLOWED = """

_plain = load


def load(*arguments, **named):
    import time

    model = _plain(*arguments, **named)
    left = iter(range(15))

    def wait(_module, _args):
        time.sleep(0.6 if next(left, None) is not None else 0)

    for block in model.sites.blocks:
        block.register_forward_pre_hook(wait)
    return model
"""
STAGES = ("compose", "prompts", "engine", "refusal_tokens", "activations", "scores", "direction", "controls")
LIMIT = 3.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TIMES = re.compile(r"\d+:\d\d(:\d\d)?( left)?")


def seen(command, folder):
    """(seconds, text) of everything that a terminal shows."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "140", "TERM": "xterm"}
    start, found = time.monotonic(), []
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        found.append((time.monotonic() - start, data.decode(errors="replace")))
    os.close(ours)
    assert process.wait() == 0, "".join(text for _, text in found)[-2000:]
    return [(0.0, "start"), *found]


def longest_silence(events):
    """Seconds between two changes of what is said, times left and bars apart, and what was last said before them."""
    worst, at, said = (0.0, ""), 0.0, ""
    for moment, text in events:
        plain = re.sub(r"[━╸╺\s]+", " ", TIMES.sub("", ESCAPES.sub("", text))).strip()
        if plain and plain[-100:] != said:
            worst = max(worst, (moment - at, said))
            at, said = moment, plain[-100:]
    return worst


def test_silence_is_found():
    shown = [(0.0, "a 1/5 tokens 0:04 left"), (2.0, "\x1b[2Ka 1/5 tokens 0:02 left"), (4.5, "a 2/5 tokens 0:01 left")]
    assert longest_silence(shown)[0] == 4.5


def test_a_slow_import_names_the_module_it_has_reached():
    said = []
    finder = Named(said.append, patience_s=0.05)
    finder.find_spec("scipy")
    finder.find_spec("scipy.linalg")
    time.sleep(0.1)
    finder.find_spec("scipy.stats")
    finder.find_spec("scipy.special")
    assert said == ["loading scipy", "loading scipy.stats"]


def test_nothing_is_said_behind_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages", "direction", "--model", "tiny", "--run", RUN])
    with pytest.raises(SystemExit, match="error: "):
        stages.main()
    assert not [finder for finder in sys.meta_path if isinstance(finder, Named)]


def test_from_one_stage_to_the_next_it_is_never_silent_for_three_seconds(tmp_path):
    events = seen([sys.executable, "-m", "pipeline", "repro", "prompts"], Project(tmp_path / "graph").folder)
    silence, said = longest_silence(events)
    assert silence <= LIMIT, f"{silence:.1f} s after '{said}'"
    assert "DVC: keeping what compose made" in "".join(text for _, text in events)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    built = Project(tmp_path_factory.mktemp("slowed"))
    loading = built.folder / "pipeline/model/loading/loading.py"
    loading.write_text(loading.read_text() + SLOWED)
    return built


def test_a_slowed_model_is_never_silent_for_three_seconds(project):
    for stage in STAGES:
        events = seen([sys.executable, "-m", "pipeline.stages", stage, "--model", "tiny", "--run", RUN], project.folder)
        silence, said = longest_silence(events)
        assert silence <= LIMIT, f"{stage}: {silence:.1f} s after '{said}'"
        shown = ESCAPES.sub("", "".join(text for _, text in events))
        assert re.search(rf"\d+/\d+ {stage}: ", shown), "names the stage and its number of how many"
        assert "done in" in shown
        if stage in ("activations", "scores", "controls"):
            assert events[-1][0] > 9, "the model is slowed"
            assert "left" in shown
            assert ", then " in shown
