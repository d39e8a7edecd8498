"""What libraries say when a file is damaged: one line, whatever language they are written in."""

import os
import subprocess
import sys

import pytest

from pipeline.errors import UserError
from pipeline.model.loading.foreign import library_errors
from tests.conftest import ROOT
from tests.helpers.cases import fails
from tests.helpers.tiny import configured, gguf_file, opened, tiny

LOAD = """
import sys, os
from pathlib import Path
from pipeline.model.loading.foreign import python_alone, tokenizer_of
from pipeline.entry.program import guarded
with python_alone():
    print("from Python", file=sys.stderr)
    os.write(2, b"from elsewhere")
print("after", file=sys.stderr)
guarded(lambda: tokenizer_of("it does not load", Path(sys.argv[1]), "damaged.gguf"))
"""


def test_a_panic_is_one_line_without_a_trace(tmp_path):
    gguf_file(tmp_path / "damaged.gguf", "qwen2", ("a", "b"))
    command = [sys.executable, "-c", LOAD, str(tmp_path)]
    told = {**os.environ, "RUST_BACKTRACE": "1"}
    result = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True)
    assert result.stderr.splitlines()[:2] == ["from Python", "after"]
    result.stderr = result.stderr.partition("after\n")[2]
    assert result.stderr == fails(result, "it does not load: range end index") + "\n"


def test_what_is_no_error_of_a_library_passes():
    for error in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(error), library_errors("a library"):
            raise error
    with pytest.raises(UserError, match=r"^ours$"), library_errors("a library"):
        raise UserError("ours")


def test_a_setting_that_fails_in_use_is_found_when_the_tokenizer_is_opened(tmp_path):
    folder = configured(tiny(tmp_path), "tokenizer_config.json", model_max_length=[1])
    with pytest.raises(UserError, match="the tokenizer of 'tiny' does not load"):
        opened(folder)
