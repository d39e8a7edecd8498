"""Models that one device does not hold: where weights go, equal results from disk, batches that shrink."""

import dataclasses

import pytest
import torch

from pipeline.config.compose import family
from pipeline.errors import UserError
from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation
from pipeline.model import loading, tracing
from pipeline.model.batching import run_batches
from pipeline.model.forward import last_logits
from pipeline.model.generation import generate
from pipeline.model.intervene import intervene
from pipeline.model.machine import free_in_groups, free_memory
from pipeline.model.memory import GIB, place, room, skeleton, weight_bytes
from pipeline.model.random_model import write_random_model
from tests.conftest import INSTRUCTIONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    described = family("qwen2")
    write_random_model(folder, "qwen2", 0, {**described.tiny["options"]})
    return folder


@pytest.fixture(scope="module")
def blueprint(folder):
    return skeleton(folder, torch.float32)


def test_the_estimate_is_the_size_of_the_weights_and_counts_tied_ones_once(folder, blueprint):
    model = loading.load("m", folder, family("qwen2"), "float32", "cpu")
    numbers = sum(parameter.numel() for parameter in model.hf.parameters())
    sizes = {name: size for name, size in weight_bytes(blueprint).items() if not name.endswith("inv_freq")}
    assert sum(sizes.values()) == 4 * numbers
    assert "lm_head.weight" not in sizes
    assert sum(weight_bytes(skeleton(folder, torch.bfloat16)).values()) < 0.6 * sum(sizes.values())


def test_limits_and_reserves_make_the_room():
    free = {"cuda:0": 24 * GIB, "cpu": 64 * GIB, "disk": 500 * GIB}
    have = room(free, {"cuda:0": 10.0})
    assert have["cuda:0"] == 10 * GIB
    assert 0 < have["cpu"] < 63 * GIB
    assert room({"cpu": GIB // 2, "disk": GIB}, {})["cpu"] == 0, "nothing is left beside the reserve"


@pytest.mark.parametrize(
    ("have", "device", "expected"),
    [
        ({"cuda:0": 10.0, "cpu": 10.0}, "cuda:0", ["cuda:0"]),
        ({"cuda:0": 10.0, "cpu": 10.0}, "cpu", ["cpu"]),
        ({"cuda:0": 0.5, "cpu": 10.0}, "cuda:0", ["cuda:0", "cpu"]),
        ({"cuda:0": 0.5, "cpu": 0.49}, "cuda:0", ["cuda:0", "cpu", "disk"]),
        ({"cpu": 0.5}, "cpu", ["cpu", "disk"]),
    ],
)
def test_weights_go_to_the_device_then_the_cpu_then_the_disk(blueprint, have, device, expected):
    whole = sum(weight_bytes(blueprint).values())
    rooms = {name: int(share * whole) for name, share in have.items()} | {"disk": 2**62}
    placement = place(blueprint, rooms, device)
    assert list(placement.shares) == expected
    assert sum(placement.shares.values()) == whole
    assert all(placement.shares[name] <= rooms[name] for name in expected)
    assert placement.on_disk == ("disk" in expected)


def test_a_model_that_fits_nowhere_is_refused_with_what_there_is(folder, tmp_path):
    limits = {"cpu": 5e-5, "disk": 1e-5}
    with pytest.raises(UserError, match=r"the weights need 0.00 GiB and there is room for .* on disk: free memory"):
        loading.load("m", folder, family("qwen2"), "float32", "cpu", memory=loading.Memory(limits, tmp_path))


def test_a_device_that_is_not_here_is_named(folder):
    with pytest.raises(UserError, match=r"engine.device is cuda:7 and this machine has .*cpu: name one of them"):
        loading.load("m", folder, family("qwen2"), "float32", "cuda:7")


def test_free_memory_is_within_the_containers_limit(tmp_path):
    assert free_memory(tmp_path / "not" / "there")["cpu"] > 0
    group = tmp_path / "cgroup"
    group.mkdir()
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("700\n")
    (group / "memory.stat").write_text("active_file 50\ninactive_file 150\n")
    own = tmp_path / "self"
    own.write_text("0::/\n")
    assert list(free_in_groups(group, own)) == [500], "pages of files are given back"


@pytest.fixture(params=["float32", "bfloat16"])
def pair(request, folder, tmp_path, capsys):
    """A model, and the same with part of its weights on disk."""
    whole = loading.load("m", folder, family("qwen2"), request.param, "cpu")
    bytes_on_cpu = 45_000 * loading.DTYPES[request.param].itemsize / 2
    memory = loading.Memory({"cpu": bytes_on_cpu / GIB}, tmp_path / "offload")
    spread = loading.load("m", folder, family("qwen2"), request.param, "cpu", memory=memory)
    assert "model 'm' does not fit on cpu: 0.00 GiB on cpu, 0.00 GiB on disk" in capsys.readouterr().err
    assert any(parameter.is_meta for parameter in spread.hf.parameters())
    return whole, spread


def test_weights_on_disk_change_no_bit(pair):
    whole, spread = pair
    direction = Direction(torch.randn(32, generator=torch.Generator().manual_seed(1)).double(), 2, -1)
    prompts = whole.encode(INSTRUCTIONS)
    for intervention in (None, DirectionalAblation(direction), ActivationAddition(direction)):
        found = []
        for model in (whole, spread):
            with intervene(model, intervention):
                found.append((last_logits(model, prompts, 60), tracing.resid_pre(model, prompts, 3)))
        (logits, resid), (other_logits, other_resid) = found
        assert torch.equal(logits, other_logits)
        assert torch.equal(resid, other_resid)
        tokens = [[row for rows in generate(model, prompts, intervention, 6, 2) for row in rows] for model in pair]
        assert tokens[0] == tokens[1]


def test_no_room_for_a_single_module_is_one_clear_line(folder, tmp_path):
    memory = loading.Memory({"cpu": 1.0 / GIB}, tmp_path / "offload")
    with pytest.raises(UserError, match=r"no device has room for a single module: raise memory.limits"):
        loading.load("m", folder, family("qwen2"), "float32", "cpu", memory=memory)


# --- out of memory


def out_of_memory_above(n_rows, seen):
    def run(batch):
        if len(batch) > n_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        seen.append(batch)
        return sum(batch)

    return run


@pytest.mark.parametrize("n_rows", [1, 2, 3, 100])
def test_every_row_runs_once_and_in_order_whatever_fits(n_rows):
    seen = []
    batches = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11, 12], [13]]
    results = list(run_batches(batches, range(1, 15), out_of_memory_above(n_rows, seen)))
    assert [row for batch, _ in results for row in batch] == list(range(14))
    assert [result for _, result in results] == [sum(batch) for batch in seen]
    assert max(map(len, seen)) <= n_rows


def test_one_row_too_large_is_one_clear_line_and_other_errors_pass():
    with pytest.raises(UserError, match=r"one prompt of 7 tokens does not fit in memory \(CUDA out of memory"):
        list(run_batches([[0, 1, 2]], [7, 8, 9], out_of_memory_above(0, [])))

    def broken(batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(run_batches([[0, 1]], [7, 8], broken))


def test_means_and_logits_survive_a_device_that_holds_two_rows(folder):
    model = loading.load("m", folder, family("qwen2"), "float32", "cpu")
    prompts = model.encode(INSTRUCTIONS)
    logits, (moments, _) = last_logits(model, prompts, 10_000), tracing.resid_pre_moments(model, prompts, 3, 10_000)
    tokens = sorted((row for rows in generate(model, prompts, None, 6, 5) for row in rows), key=lambda row: row.row)

    def small(_module, args):
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with_hook = model.sites.embeddings[0].register_forward_pre_hook(small)
    torch.testing.assert_close(last_logits(model, prompts, 10_000), logits, atol=2e-5, rtol=1e-5)
    again, _ = tracing.resid_pre_moments(model, prompts, 3, 10_000)
    torch.testing.assert_close(again.mean, moments.mean, atol=2e-5, rtol=1e-5)
    shrunk = [row for rows in generate(model, prompts, None, 6, 5) for row in rows]
    with_hook.remove()
    assert sorted(shrunk, key=lambda row: row.row) == tokens


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_bitsandbytes_weights_are_measured_and_pass_the_self_check(tmp_path, quantize):
    pytest.importorskip("bitsandbytes")
    described = family("llama")
    options = {**described.tiny["options"], "hidden_size": 64, "intermediate_size": 128}
    write_random_model(tmp_path, "llama", 0, options)
    model = loading.load("m", tmp_path, described, "bfloat16", "cpu", quantize=quantize)
    assert not model.hf.get_parameter("model.layers.0.mlp.down_proj.weight").is_floating_point()
    assert model.report.cosine_after_edit is None, "packed weights are not edited"
    plain = loading.load("m", tmp_path, described, "bfloat16", "cpu")
    prompts = model.encode(INSTRUCTIONS)
    ours, exact = (last_logits(each, prompts, 10_000) for each in (model, plain))
    cosine = torch.nn.functional.cosine_similarity(ours, exact, dim=-1)
    assert cosine.min() > 0.9
    assert dataclasses.astuple(model.report)[0] < 0.1
