"""A mistake on a command line is one line with status 1, of every command."""

import subprocess
import sys

import pytest

from pipeline.config.compose import compose
from pipeline.errors import UserError
from tests.conftest import ROOT
from tests.helpers.cases import fails


def test_every_command_line_is_read_by_the_same_parser():
    modules = [path for path in (ROOT / "pipeline").rglob("*.py") if "argparse.ArgumentParser" in path.read_text()]
    assert [path.name for path in modules] == ["arguments.py"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["pipeline", "nope"], r"choose from 'check'.*: see python -m pipeline --help$"),
        (["pipeline", "check"], r"required: model.*: see python -m pipeline check --help$"),
        (["pipeline", "check", "./nowhere"], "'./nowhere' is no folder"),
        (["pipeline", "gate", "--nope"], r"unrecognized arguments: --nope: see python -m pipeline gate --help$"),
        (["pipeline.stages"], r"required: stage.*: see python -m pipeline\.stages --help$"),
    ],
)
def test_a_mistake_is_one_line(command, said):
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr == fails(result, said) + "\n"


def test_an_unknown_name_is_told_with_near_ones():
    with pytest.raises(UserError, match=r"has qwen2_5_coder_0_5b, .* more$"):
        compose("qwen2_5_coder", "quick", [])
