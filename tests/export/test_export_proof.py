"""An export that is not what it says is not published."""

import dataclasses
import json
import shutil

import pytest

from pipeline.export.model import equivalence, proof
from tests.helpers.cases import fails, refused
from tests.helpers.graph import Project
from tests.helpers.tiny import exported, opened, tiny

EDITED = "model.layers.1.self_attn.o_proj.weight"
SKIP = f"""

_edit = Plan.edit
Plan.edit = lambda self, name, tensor: None if name == "{EDITED}" else _edit(self, name, tensor)
"""
SCALE = f"""

_edit = Plan.edit
Plan.edit = lambda self, name, tensor: (_edit(self, name, tensor), name == "{EDITED}" and tensor.mul_(1.00001))
"""
COPY = """

_rewrite = checkpoint._copy


def _copy(path, stored, put, progress):
    _rewrite(path, stored, lambda data: put(bytes([data[0] ^ 1]) + data[1:] if stored.start > 5000 else data), progress)


checkpoint._copy = _copy
"""


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    built = Project.copied(finished, tmp_path_factory.mktemp("proof"))
    shutil.rmtree(built.at("models") / "export")
    return built


@pytest.mark.parametrize("wrong", [SKIP, SCALE, COPY], ids=["an edit skipped", "an edit scaled", "a copy damaged"])
def test_stage_export_fails_and_publishes_nothing(project, wrong):
    code = project.folder / "pipeline/export/model/streaming.py"
    right = code.read_text()
    code.write_text(right + wrong)
    try:
        line = fails(project.stage("export", check=False), "of the export is not .*nothing is exported")
    finally:
        code.write_text(right)
    assert "tensor '" in line
    assert not [path for path in project.at("models").iterdir() if "export" in path.name], "nothing is left"


def test_stage_export_fails_where_the_model_behaves_otherwise(project):
    """Every tensor is as planned, and the plan is wrong: it leaves a writer out."""
    code = project.folder / "pipeline/export/model/streaming.py"
    right = code.read_text()
    wrong = right.replace("if parameter in planned:", "if parameter in planned and '.0.' not in parameter:")
    assert wrong != right
    code.write_text(wrong)
    try:
        line = fails(project.stage("export", check=False), "the export is not equal to live ablation")
    finally:
        code.write_text(right)
    assert "the bound in float32 is 0.001" in line
    assert not [path for path in project.at("models").iterdir() if "export" in path.name], "nothing is left"
    project.stage("export")
    assert json.loads((project.at("models") / "export/equivalence.json").read_text())["exported"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tiny(tmp_path_factory.mktemp("bounds") / "m")
    model = opened(folder)
    from tests.helpers.tiny import direction

    return equivalence.compare(model, opened(exported(folder)), model.encode(["hello", "x"]), direction(), 8, 10_000)


def test_bounds(found):
    proof.require_equal(found, True, "float32")
    assert found.logit_difference_max < 0.1 * proof.bound(True, "float32").logits * found.effect_max, (
        "room for rounding"
    )
    beyond = {
        "largest logit difference": {"logit_difference_max": 1.1e-3 * found.effect_max},
        "greedy answers that differ is 0.5": {"greedy_different": 1},
        r"abs\(cos\) of resid_pre": {"max_cosine_after": [0.0, 2e-4]},
    }
    for said, change in beyond.items():
        with refused(said):
            proof.require_equal(dataclasses.replace(found, **change), True, "float32")
    with refused("largest logit difference.* is nan"):
        proof.require_equal(dataclasses.replace(found, logit_difference_max=float("nan")), True, "float32")
    with refused("largest logit difference"):
        proof.require_equal(dataclasses.replace(found, logit_difference_max=0.6 * found.effect_max), False, "float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_bounds_of_narrow_dtypes_hold(tmp_path, dtype):
    from tests.helpers.tiny import direction

    folder = tiny(tmp_path / "m")
    out = exported(folder)
    model = opened(folder, dtype=dtype)
    after = equivalence.compare(model, opened(out, dtype=dtype), model.encode(["hello", "x"]), direction(), 8, 10_000)
    proof.require_equal(after, True, dtype)
    unedited = equivalence.compare(model, model, model.encode(["hello", "x"]), direction(), 8, 10_000)
    with refused("the export is not equal to live ablation"):
        proof.require_equal(unedited, True, dtype)
