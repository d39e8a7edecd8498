"""One door: every verb has a module, helps, and is there from a wheel as well, in any folder."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from pipeline.__main__ import VERBS
from pipeline.model.loading.random_model import write_random_model
from tests.conftest import OPTIONS, ROOT

NAMES = [verb for group in VERBS.values() for verb in group]


def ran(*command, cwd: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)


def test_every_command_is_a_verb_and_every_verb_a_command():
    files = {path.stem.replace("_", "-") for path in (ROOT / "pipeline" / "commands").glob("*.py")} - {"--init--"}
    assert files == set(NAMES)


def test_the_verbs_are_listed_with_what_they_are_for():
    shown = ran(sys.executable, "-m", "pipeline", cwd=ROOT)
    assert shown.returncode == 0
    for group in VERBS.values():
        for verb, text in group.items():
            assert f"{verb} " in shown.stdout
            assert text in shown.stdout


@pytest.mark.parametrize("verb", NAMES)
def test_every_verb_helps(verb):
    shown = ran(sys.executable, "-m", "pipeline", verb, "--help", cwd=ROOT)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"python -m pipeline {verb}" in shown.stdout
    assert "torch" not in loaded(verb), "help waits for no library"


def loaded(verb: str) -> set[str]:
    code = (
        f"import sys, pipeline.__main__ as door; sys.argv = ['x', '{verb}', '--help']\n"
        "try: door.main()\n"
        "except SystemExit: print('LOADED', *sys.modules)"
    )
    return set(ran(sys.executable, "-c", code, cwd=ROOT).stdout.rpartition("LOADED")[2].split())


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The command `refusal-direction` of a fresh environment, whose other libraries are those here."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    built = ran(uv, "build", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    if built.returncode and "hatchling" in built.stderr and not os.environ.get("CI"):
        pytest.skip("the package index is not reached: no wheel can be built")
    assert built.returncode == 0, built.stderr
    venv.create(folder / "env")
    [wheel] = folder.glob("*.whl")
    python = folder / "env" / "bin" / "python"
    put = ran(uv, "pip", "install", "--python", python, "--no-deps", "--offline", wheel, cwd=folder)
    assert put.returncode == 0, put.stderr
    [site] = (folder / "env").glob("lib/python*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin" / "refusal-direction"


def test_a_wheel_chooses_a_direction_outside_of_a_checkout(installed, tmp_path):
    rows = [
        {"position": -1, "layer": layer, "steering_score": 1.0, "refusal_score": float(-layer), "kl_div_score": 0.01}
        for layer in range(4)
    ]
    (tmp_path / "scores.json").write_text(json.dumps(rows))
    done = ran(installed, "select", "--scores", "scores.json", "--layers", "8", "--rule", "paper", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"layer": 3' in done.stdout
    assert ran(installed, "nope", cwd=tmp_path).stderr.endswith("see refusal-direction --help\n")


def test_a_wheel_checks_a_model_outside_of_a_checkout(installed, tmp_path):
    (tmp_path / "model").mkdir()
    write_random_model(tmp_path / "model", "qwen2", 0, OPTIONS)
    done = ran(installed, "check", "./model", cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "qwen2" in done.stdout
