"""Code that ships with a model never runs, whatever asks for it and whoever says yes."""

import ast
import contextlib
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.judges.formats.formats import FORMATS
from pipeline.judges.model import classifier
from tests.conftest import FAMILY, ROOT
from tests.helpers.cases import Cases, refused
from tests.helpers.graph import Project
from tests.helpers.tiny import configured, opened, tiny

cases = Cases("Code that ships with a model")
OPENS = ("from_pretrained", "from_config")
WITHOUT_CODE = {"GenerationConfig", "PreTrainedTokenizerFast"}


def booby_trapped(folder: Path, mark: Path) -> Path:
    """A model whose every file asks for code of its own, which makes the file `mark`."""
    tiny(folder)
    code = f"open({str(mark)!r}, 'w').write('ran')\n"
    classes = ("config", "AutoConfig"), ("model", "AutoModelForCausalLM"), ("tokenizer", "AutoTokenizer")
    for module, _ in classes:
        (folder / f"own_{module}.py").write_text(f"{code}class Own:\n    pass\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text(f"{code}def generate(*a, **k):\n    pass\n")
    own: dict[str, Any] = {auto: f"own_{module}.Own" for module, auto in classes}
    configured(folder, auto_map={**own, "AutoTokenizer": ["own_tokenizer.Own", "own_tokenizer.Own"]})
    tokenizer = {"AutoTokenizer": ["own_tokenizer.Own", "own_tokenizer.Own"]}
    configured(folder, "tokenizer_config.json", auto_map=tokenizer)
    configured(folder, "processor_config.json", auto_map={"AutoProcessor": "own_model.Own"})
    return configured(folder, "generation_config.json", auto_map={"AutoModelForCausalLM": "own_model.Own"})


@cases(
    "R01",
    "configuration, model, tokenizer and generation with code of their own",
    "opened with the library's classes, and said so",
)
def trapped(tmp_path):
    said: list[str] = []
    model = opened(booby_trapped(tmp_path / "m", tmp_path / "ran"), note=said.append)
    assert any("ships code of its own, which is never run" in line for line in said)
    model.hf.generate(torch.ones((1, 3), dtype=torch.long), max_new_tokens=1)  # type: ignore[operator]
    assert not (tmp_path / "ran").exists()


@cases("R02", "an architecture that the library does not have, with code of its own", "refused: names the architecture")
def foreign(tmp_path):
    folder = configured(booby_trapped(tmp_path / "m", tmp_path / "ran"), model_type="own", architectures=["Own"])
    with refused("has architecture 'own'"):
        opened(folder)
    with refused("does not load|trust_remote_code|tokenizer of 'tiny'"):
        opened(folder, dataclasses.replace(FAMILY, model_types=["own"]))
    assert not (tmp_path / "ran").exists()


@cases("R03", "a tokenizer of a class that only ships with the model", "the library's class, or refused; never run")
def foreign_tokenizer(tmp_path):
    folder = configured(booby_trapped(tmp_path / "m", tmp_path / "ran"), "tokenizer_config.json", tokenizer_class="Own")
    with contextlib.suppress(UserError):
        opened(folder)
    assert not (tmp_path / "ran").exists()


def with_yes(project, *command):
    """A command with `y` on its standard input for ever, as from `yes |`."""
    yes = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    try:
        return subprocess.run(command, cwd=project, stdin=yes.stdout, capture_output=True, text=True, timeout=300)
    finally:
        yes.kill()


@cases(
    "R04",
    "the same with `yes |` before check, make repro's command and bare dvc repro",
    "measured; the code never runs",
)
def yes(tmp_path):
    folder, mark = booby_trapped(tmp_path / "m", tmp_path / "ran"), tmp_path / "ran"
    checked = with_yes(ROOT, sys.executable, "-m", "pipeline", "check", str(folder))
    assert checked.returncode == 0, checked.stderr
    assert "never run" in checked.stderr
    project = Project(tmp_path / "graph")
    project.params(overrides=f"model.source.kind=folder, '+model.source.path=\"{folder}\"'")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    for command in (
        ["-m", "pipeline", "repro", "refusal_tokens"],
        ["-m", "dvc", "repro", "--force", "refusal_tokens"],
    ):
        done = with_yes(project.folder, "env", *(f"{k}={v}" for k, v in environment.items()), sys.executable, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert not mark.exists()


@cases("R05", "a judge's folder with code of its own", "opened or refused; never run")
def judge(tmp_path):
    folder = booby_trapped(tmp_path / "m", tmp_path / "ran")
    form = dataclasses.replace(next(iter(FORMATS.values())), model_types=("qwen2",))
    with contextlib.suppress(UserError):
        classifier.load(form, folder)
    assert not (tmp_path / "ran").exists()


@cases("R06", "pickled files beside the weights", "never opened, and not copied into an export")
def pickles(tmp_path):
    from tests.helpers.tiny import exported

    folder = tiny(tmp_path / "m")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "own.py"):
        (folder / name).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    out = exported(folder)
    assert {path.suffix for path in out.iterdir()} <= {".json", ".safetensors", ".jinja", ".txt", ""}


def test_every_call_that_could_load_code_says_no():
    calls = 0
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in OPENS):
                continue
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            said = {key.arg: key.value for key in node.keywords}
            if owner in WITHOUT_CODE or path.name == "random_model.py":
                continue
            calls += 1
            value = said.get("trust_remote_code")
            assert getattr(value, "value", None) is False, f"{path}:{node.lineno}"
    assert calls >= 6


def test_nothing_trusts_code_by_another_way():
    for path in (*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")):
        text = path.read_text()
        assert "trust_remote_code=True" not in text, path
        assert "weights_only=False" not in text, path
        assert "torch.load(" not in text, path


test_cases = cases.test()
