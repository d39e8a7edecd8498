"""dvc.yaml and dvc.lock are read in one way, and the project's own hold what it says of them."""

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.graph.declared import Out, read_graph, read_lock
from tests.conftest import ROOT

GRAPH = """
stages:
  first: {cmd: x, desc: says so, outs: ["out/${item.model}/${item.run}"]}
  second:
    frozen: true
    deps: ["out/${item.model}/${item.run}/one.json"]
    params: [seed, {code.json: [stages.second]}, {config.yaml: }]
    outs: [{two.json: {cache: false}}, {three: {cache: true}}]
    metrics: [{four.json: {cache: false}}]
    plots: [{five.csv: {cache: false, x: value}}]
"""


def test_a_graph_is_what_its_file_says(tmp_path):
    assert read_graph(tmp_path) == {}
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    first, second = read_graph(tmp_path, "tiny", "smoke").values()
    assert (first.desc, first.outs, first.deps) == ("says so", (Out("out/tiny/smoke", False),), ())
    assert second.deps == ("out/tiny/smoke/one.json",)
    assert second.params == {"code.json": ("stages.second",), "config.yaml": ()}
    assert second.outs == (Out("two.json", True), Out("three", False), Out("four.json", True), Out("five.csv", True))
    assert (first.frozen, second.frozen) == (False, True)
    assert read_graph(tmp_path)["first"].outs == (Out("out/${item.model}/${item.run}", False),)


def test_the_projects_own_graph_loses_nothing():
    plain = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    graph = read_graph(ROOT)
    assert list(graph) == list(plain)
    for name, entry in plain.items():
        assert len(graph[name].outs) == sum(len(entry.get(key, ())) for key in ("outs", "metrics", "plots"))
        assert list(graph[name].deps) == entry.get("deps", [])


def test_a_lock_is_what_dvc_noted(tmp_path):
    lock = tmp_path / "dvc.lock"
    assert read_lock(lock) == {}
    row = {
        "outs": [{"path": "a", "md5": "1.dir", "size": 3}, {"path": "b"}],
        "params": {"code.json": {"stages.x": "2"}},
    }
    lock.write_text(
        yaml.safe_dump({"schema": "2.0", "stages": {"x@tiny-smoke": row, "golden": {"cmd": "y"}}}, sort_keys=False)
    )
    recorded = read_lock(lock)
    assert recorded["x@tiny-smoke"].outs == {"a": "1.dir", "b": ""}
    assert recorded["x@tiny-smoke"].params == {"code.json": {"stages.x": "2"}}
    assert [entry.stage for entry in recorded.values()] == ["x", "golden"]


@pytest.mark.parametrize("text", ["stages: [1]", "stages: {x: null}", "stages: {x: {outs: [3]}}", "[1]", "stages: 3"])
def test_what_dvc_did_not_write_is_refused_by_name(tmp_path, text):
    for name, reader in (("dvc.yaml", lambda path: read_graph(path.parent)), ("dvc.lock", read_lock)):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=rf"{name} is not what DVC writes \(.*\): check it out again"):
            reader(tmp_path / name)
