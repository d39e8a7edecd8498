"""What `make fresh` must see, each on a copy of what is committed, and what it must not."""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.config.params import Run
from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.graph import fresh
from pipeline.report import configuration, pages
from tests.conftest import ROOT

MODEL = "qwen2_5_coder_0_5b"
RUNS = [Run(MODEL, "quick"), Run(MODEL, "standard")]
COPIED = ("pipeline", "conf", ".dvc/config", ".dvcignore", "dvc.yaml", "dvc.lock", "params.yaml", "README.md", "docs")
COPIED += ("requirements.lock", "pyproject.toml", *(f"outputs/{name}" for name in ("code.json", "eval", "figures")))
COPIED += ("outputs/golden", "outputs/families")
COPIED += tuple(name for name in ("outputs/seeds", "outputs/speed") if (ROOT / name).exists())
COPIED += tuple(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(f"outputs/models/{MODEL}/*/config.yaml")))
EVAL = f"outputs/eval/{MODEL}"


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    for name in COPIED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert re.search(before, text), before
    path.write_text(re.sub(before, after, text, count=1))


def another_rate(path: Path) -> None:
    metrics = json.loads(path.read_text())
    metrics["refusal_score"]["harmful_ablation"]["value"] = 0.02
    path.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n")


def test_what_is_committed_belongs_together(copy):
    assert fresh.problems() == []
    edit(copy / "pipeline/graph/fresh.py", "^", "# a comment in a file that no stage imports\n")
    edit(copy / "pipeline/entry/bars.py", "left", "to go")
    assert fresh.problems() == []


def test_metrics_edited_with_and_without_the_lock(copy):
    lock = copy / "dvc.lock"
    edited = {}
    for label in ("quick", "standard"):
        path = copy / EVAL / label / "metrics.json"
        before = path.read_bytes()
        another_rate(path)
        edited[path] = [_md5(data) for data in (before, path.read_bytes())]
    found = fresh.problems()
    for label in ("quick", "standard"):
        assert any(f"metrics@{MODEL}-{label} is out of date" in line for line in found)
    for path, (old, new) in edited.items():
        locked = lock.read_text()
        assert locked.count(old) >= 3
        lock.write_text(re.sub(rf"(md5: ){old}(\n\s*size: )\d+", rf"\g<1>{new}\g<2>{path.stat().st_size}", locked))
    found = fresh.problems()
    for label in ("quick", "standard"):
        assert f"{EVAL}/{label}/metrics.json is not what was sealed" in "\n".join(found)
    assert not any("is out of date" in line for line in found), "the lock agrees: only the seal tells"


def _md5(content: bytes) -> str:
    import hashlib

    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    "name",
    ["outputs/eval", "outputs/figures", f"{EVAL}/standard/metrics.json", f"{EVAL}/quick/seal.json", "outputs/golden"],
)
def test_what_is_deleted_is_named(copy, name):
    path = copy / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    missing = [str(file) for run in RUNS for file in fresh.missing_results(run)]
    assert any(file.startswith(name) for file in missing)


def test_an_edited_table_of_a_page_is_named(copy):
    assert pages.edited() == {}
    changes = {
        "README.md": ("claim", r"taken out \| 1%", "taken out | 0%"),
        "docs/results.md": ("refusal", r"direction ablated \| 1%", "direction ablated | 0%"),
        "docs/families.md": ("families", r"qwen3 \| 6", "qwen3 | 5"),
        "docs/configuration.md": ("configuration", r"`seed` \| whole number \| `0`", "`seed` | whole number | `1`"),
    }
    for page, (_, before, after) in changes.items():
        edit(copy / page, before, after)
    assert pages.edited() == {Path(page): [part] for page, (part, _, _) in changes.items()}
    assert len(pages.problems()) == len(changes)


def test_a_number_of_a_page_that_comes_from_nowhere_is_named(copy):
    assert pages.problems() == []
    edit(copy / "README.md", r"Python 3\.11", "Python 3.12")
    edit(copy / "docs/method.md", "## Planted truth", "## Planted truth\n\nIn 17 of 20 runs it was right.\n")
    found = pages.problems()
    assert sum("README.md" in line for line in found) >= 1
    assert sum("of docs/method.md is traced by 0 rows" in line for line in found) == 2


def test_every_value_of_the_configuration_is_described(copy):
    """By the comment that it has in conf/, and with a type of the schema."""
    found = configuration.described()
    assert [key for key, meaning in found.items() if not meaning] == []
    assert {configuration.type_of(key) for key in found} & {"any"} == set()
    for group in fields(Config):
        described = any(key.split(".")[0] == group.name for key in found)
        assert described or group.name in ("model", "data", "text"), f"{group.name}: a file of its own"


def test_a_stage_that_is_removed_or_frozen_and_files_that_are_hidden_are_named(copy):
    graph = (copy / "dvc.yaml").read_text()
    without = re.sub(r"(?s)\n  stability:\n.*?(?=\n  invariance:)", "", graph)
    (copy / "dvc.yaml").write_text(without)
    assert "dvc.yaml has no stage 'stability', and dvc.lock has results of it" in fresh.broken_graph()
    assert copy / EVAL / "quick/stability.json" in fresh.unwritten(RUNS, copy)
    (copy / "dvc.yaml").write_text(graph.replace("  scores:\n", "  scores:\n    frozen: true\n"))
    assert "stage 'scores' of dvc.yaml is frozen" in fresh.broken_graph()
    (copy / "dvc.yaml").write_text(graph)
    edit(copy / ".dvcignore", "^", "conf/select\npipeline\n")
    assert "conf/select/paper.yaml is hidden by .dvcignore from the stages that need it" in fresh.broken_graph()
    edit(copy / "pipeline/artifacts/control_scores.py", "\nfrom pathlib", "\n# a control is cut out\nfrom pathlib")
    assert f"controls@{MODEL}-quick" in fresh.stale_code(RUNS), "code is seen though .dvcignore hides it"


def test_results_that_no_stage_writes_and_strays_are_named(copy):
    for name in (f"{EVAL}/quick/extra.json", f"{EVAL}/standard/found/extra", f"outputs/figures/{MODEL}/quick/x.png"):
        (copy / name).write_text("{}")
    stray = copy / EVAL / "paper"
    stray.mkdir()
    (stray / "metrics.json").write_text("{}")
    (copy / "outputs/copied").mkdir()
    found = "\n".join(fresh.problems())
    assert f"{EVAL}/quick/extra.json is written by no stage" in found
    assert f"{EVAL}/paper is of no run in dvc.lock or params.yaml" in found
    assert "outputs/copied is of no run in dvc.lock or params.yaml" in found
    assert f"{EVAL}/standard/found/extra is written by no stage" in found
    assert f"outputs/figures/{MODEL}/quick/x.png is written by no stage" in found


def test_another_locked_version_is_named(copy):
    edit(copy / "pyproject.toml", r"torch==2\.", "torch==9.")
    found = fresh.stale_code(RUNS)
    assert found[f"activations@{MODEL}-standard"] == ["torch"]
    assert f"report@{MODEL}-quick" not in found


def test_code_is_compared_with_what_the_results_were_made_with(copy):
    """Not with a record that was made again."""
    edit(copy / "pipeline/maths/directions.py", "^", "# changed\n")
    from pipeline.disk.files import write_json
    from pipeline.graph import closure

    write_json(copy / "outputs/code.json", closure.record(copy))
    assert f"direction@{MODEL}-quick" in fresh.stale_code(RUNS)


def test_parts_of_the_readme_come_once_each_and_by_known_names(copy):
    page = Path("docs/results.md")
    text = (copy / page).read_text()
    part = pages.PART.search(text)
    assert part
    for wrong in (text.replace(part[0], ""), text + part[0], text.replace("made: refusal", "made: nothing")):
        (copy / page).write_text(wrong)
        with pytest.raises(UserError, match="made parts come once each"):
            pages.renewed(page, copy)
    (copy / page).write_text(text)
    assert pages.renewed(page, copy) == text
