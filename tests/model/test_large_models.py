"""Models that one device does not hold: where weights go, equal results from disk, batches that shrink."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from pipeline.config.compose import family
from pipeline.errors import UserError
from pipeline.export.model import surgery
from pipeline.loss.model import Passage, passage_losses
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation
from pipeline.model.batching import run_batches
from pipeline.model.generation.generation import generate
from pipeline.model.loading import loading, machine
from pipeline.model.loading import placement as memory
from pipeline.model.loading.placement import GIB
from pipeline.model.loading.random_model import write_random_model
from pipeline.model.passes import forward, tracing
from pipeline.model.passes.forward import last_logits
from pipeline.model.passes.intervene import intervene
from tests.conftest import FAMILY, INSTRUCTIONS

MOE = family("qwen3_moe")
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


def total(model):
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


@pytest.fixture(scope="module")
def moe_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moe")
    write_random_model(folder, MOE.tiny["model_type"], 0, MOE.tiny["options"])
    return folder


@pytest.fixture
def empty(tiny_folder):
    return memory.skeleton(tiny_folder, torch.float32)


def test_the_estimate_is_the_size_of_the_loaded_weights(tiny_folder, model):
    weights = sum(parameter.nbytes for parameter in model.hf.parameters())
    buffers = sum(buffer.nbytes for buffer in model.hf.buffers())
    assert total(memory.skeleton(tiny_folder, torch.float32)) == weights + buffers
    halved = memory.skeleton(tiny_folder, torch.bfloat16)
    assert sum(parameter.nbytes for parameter in halved.parameters()) == weights / 2


@pytest.mark.parametrize(
    ("free", "limits", "expected"),
    [
        ({"cpu": 100 * GIB, "disk": 1}, {}, {"cpu": 94 * GIB}),
        ({"cpu": 100 * GIB, "disk": 1}, {"cpu": 4.0}, {"cpu": 4 * GIB}),
        ({"cpu": 100 * GIB, "disk": 1}, {"cpu": 99.0, "disk": 2.0}, {"cpu": 94 * GIB, "disk": 2 * GIB}),
        ({"cuda:0": 20 * GIB, "cpu": GIB // 2, "disk": 1}, {"cuda:0": 0.0, "cuda:7": 9.0}, {"cuda:0": 0, "cpu": 0}),
    ],
)
def test_a_device_takes_what_is_free_less_a_reserve_and_no_more_than_its_limit(free, limits, expected):
    assert memory.room(free, limits) == {"disk": memory.UNBOUNDED, **expected}


# Room on each device as a share of the model's size, and the devices that then hold weights.
@pytest.mark.parametrize(
    ("device", "have", "expected"),
    [
        ("cpu", {"cpu": 1.0}, ["cpu"]),
        ("cpu", {"cuda:0": 9.0, "cpu": 1.0}, ["cpu"]),
        ("cpu", {"cuda:0": 9.0, "cpu": 0.8}, ["cpu", "disk"]),
        ("cpu", {"cpu": 0.0}, ["disk"]),
        ("cuda:0", {"cuda:0": 1.0, "cpu": 9.0}, ["cuda:0"]),
        ("cuda:1", {"cuda:0": 9.0, "cuda:1": 1.0, "cpu": 9.0}, ["cuda:1"]),
        ("cuda:0", {"cuda:0": 0.9, "cuda:1": 0.9, "cpu": 9.0}, ["cuda:0", "cuda:1"]),
        ("cuda:0", {"cuda:0": 0.8, "cpu": 9.0}, ["cuda:0", "cpu"]),
        ("cuda:0", {"cuda:0": 0.0, "cpu": 9.0}, ["cpu"]),
        ("cuda:0", {"cuda:0": 0.7, "cpu": 0.5}, ["cuda:0", "cpu", "disk"]),
    ],
)
def test_gpus_fill_first_then_the_cpu_then_the_disk(empty, device, have, expected):
    sizes = {name: int(share * total(empty)) for name, share in have.items()}
    placement = memory.place(empty, {**sizes, "disk": memory.UNBOUNDED}, device)
    assert list(placement.shares) == expected
    assert sum(placement.shares.values()) == total(empty)
    assert all(size <= sizes.get(name, memory.UNBOUNDED) for name, size in placement.shares.items())
    blocks = [path for path in placement.modules if path.startswith("model.layers.")]
    assert all(path.count(".") == 2 for path in blocks), "no block is split"
    devices = list(placement.modules.values())
    assert "disk" not in devices[: len(devices) - devices.count("disk")]


def test_accelerate_gets_gpus_by_number():
    placement = memory.Placement({"a": "cuda:1", "b": "cpu", "c": "disk"}, {})
    assert placement.device_map == {"a": 1, "b": "cpu", "c": "disk"}


def test_what_does_not_fit_is_refused_with_one_line(empty, tiny_folder, moe_folder, monkeypatch):
    free = {"cpu": 20 * GIB, "disk": 100}
    monkeypatch.setattr(memory, "free_memory", lambda folder: dict(free))
    little = 0.8 * total(empty) / GIB
    with pytest.raises(UserError, match="this machine has cpu: name one of them, or auto"):
        memory.plan(empty, tiny_folder, "cuda:0", memory.Memory())
    with pytest.raises(UserError, match=r"no device has room for a single module .*: free memory, raise memory\.lim"):
        memory.plan(empty, tiny_folder, "cpu", memory.Memory({"cpu": 0.0}))
    with pytest.raises(UserError, match=r"weights need 0\.00 GiB .* 0\.00 GiB on disk: free memory, raise memory\.lim"):
        memory.plan(empty, tiny_folder, "cpu", memory.Memory({"cpu": little, "disk": 0.0}))
    with pytest.raises(UserError, match=r"engine\.quantize"):
        memory.plan(empty, tiny_folder, "cpu", memory.Memory({"cpu": little / 2}), packing=0.6)
    # Plain weights stay where they are in the model's folder; stacked experts are written anew.
    assert memory.plan(empty, tiny_folder, "cpu", memory.Memory({"cpu": little})).on_disk
    experts = memory.skeleton(moe_folder, torch.float32)
    with pytest.raises(UserError, match=r"memory\.offload_folder on a larger disk"):
        memory.plan(experts, moe_folder, "cpu", memory.Memory({"cpu": 0.6 * total(experts) / GIB}))


def test_limits_of_containers_and_batch_systems_count(tmp_path):
    own, job = tmp_path / "own", tmp_path / "slurm" / "job"
    job.mkdir(parents=True)
    own.write_text("1:name=systemd:/\n4:memory:/inner\n0::/slurm/job\n")
    for group, limit in ((job, "max"), (job.parent, "1000")):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text("700\n")
        (group / "memory.stat").write_text("anon 400\nactive_file 100\ninactive_file 200\n")
    assert list(machine.free_in_groups(tmp_path, own)) == [600]
    (tmp_path / "memory").mkdir()  # version 1, in a container: its group is the mount's root
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("500\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("300\n")
    (tmp_path / "memory" / "memory.stat").write_text("total_active_file 0\ntotal_inactive_file 10\n")
    assert sorted(machine.free_in_groups(tmp_path, own)) == [210, 600]
    assert list(machine.free_in_groups(tmp_path / "none", tmp_path / "none")) == []


def load(folder, described, dtype="float32"):
    return loading.load("m", folder, described, dtype, "cpu")


def load_spread(folder, described, offload, share, dtype="float32", **options):
    """The model with at most `share` of its weights in memory."""
    limit = share * total(memory.skeleton(folder, loading.DTYPES[dtype])) / GIB
    limited = memory.Memory({"cpu": limit}, offload)
    spread = loading.load("m", folder, described, dtype, "cpu", memory=limited, **options)
    assert {True, False} == {parameter.is_meta for parameter in spread.hf.parameters()}
    return spread


def measured(model, intervention):
    prompts = model.encode(INSTRUCTIONS)
    with intervene(model, intervention):
        activations, logits = tracing.resid_pre(model, prompts, 3), last_logits(model, prompts, 60)
        losses = passage_losses(model, [Passage(tuple(prompts[0][:9]), tuple(prompts[0][9:]))], 60)
    return activations, logits, losses, list(generate(model, prompts, intervention, 6, 2))


def assert_same(model, other, direction):
    for intervention in (None, DirectionalAblation(direction), ActivationAddition(direction)):
        ours, theirs = measured(model, intervention), measured(other, intervention)
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
        assert ours[2:] == theirs[2:]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_on_disk_change_no_bit(tiny_folder, direction, tmp_path, dtype):
    said = []
    spread = load_spread(tiny_folder, FAMILY, tmp_path, 0.8, dtype, note=said.append)
    assert "model 'm' does not fit on cpu: 0.00 GiB on cpu, 0.00 GiB on disk" in said[0]
    assert not list(tmp_path.rglob("*.safetensors")), "read from the model's own folder"
    assert_same(spread, load(tiny_folder, FAMILY, dtype), direction)


def test_experts_on_disk_change_no_bit_and_two_models_share_no_file(moe_folder, direction, tmp_path, monkeypatch):
    leave = []
    monkeypatch.setattr(memory.atexit, "register", lambda call, *args, **named: leave.append((call, args, named)))
    spread = load_spread(moe_folder, MOE, tmp_path, 0.7)
    second = tmp_path / "second"
    write_random_model(second, MOE.tiny["model_type"], 1, MOE.tiny["options"])
    load_spread(second, MOE, tmp_path, 0.7)
    assert len({path.parent for path in tmp_path.glob("offload-*/*.safetensors")}) == 2
    whole = load(moe_folder, MOE)
    wide = dataclasses.replace(direction, vector=direction.vector.repeat(2)[: whole.sites.head.in_features])
    assert_same(spread, whole, wide)
    for call, args, named in leave:
        call(*args, **named)
    assert not list(tmp_path.glob("offload-*")), "removed when the process ends"


def test_weights_on_disk_are_not_edited_in_memory(tiny_folder, direction, tmp_path):
    spread = load_spread(tiny_folder, FAMILY, tmp_path, 0.8)
    surgery.untie(spread)
    with pytest.raises(UserError, match=r"is on disk or packed, so it cannot be edited here"):
        surgery.orthogonalize_weights(spread, direction)


def full_above(model, rows):
    """The second block runs out of memory on more than `rows` rows; returns the sizes of the batches it is given."""
    seen = []

    def check(_module, args, kwargs):
        x = args[0] if args else kwargs["hidden_states"]
        seen.append(len(x))
        if len(x) > rows:
            raise torch.OutOfMemoryError(FULL)

    model.sites.blocks[1].register_forward_pre_hook(check, with_kwargs=True)
    return seen


@pytest.mark.parametrize("rows", [1, 3])
def test_batches_that_memory_does_not_hold_are_halved(model, tiny_folder, direction, rows):
    prompts = model.encode([*INSTRUCTIONS, "and another one", "y"])
    plain = load(tiny_folder, FAMILY)
    seen, counted = full_above(model, rows), []
    with intervene(model, DirectionalAblation(direction)), intervene(plain, DirectionalAblation(direction)):
        ours = last_logits(model, prompts, 10**4, counted.append)
        assert_close(ours, last_logits(plain, prompts, 10**4), atol=2e-5, rtol=1e-5)
        assert max(seen) > rows
        assert min(counted) < 0, "what has to be done again is taken back"
        assert sum(counted) == pytest.approx(forward.n_tokens(model, prompts)), "and counted once"
        moments, _ = tracing.resid_pre_moments(model, prompts, 3, 10**4)
        expected, _ = tracing.resid_pre_moments(plain, prompts, 3, 10**4)
    assert_close(moments.mean, expected.mean, atol=2e-5, rtol=1e-5)
    assert_close(moments.variance, expected.variance, atol=2e-5, rtol=1e-5)
    generated, wanted = (
        [item for batch in generate(each, prompts, None, 6, 5) for item in batch] for each in (model, plain)
    )
    assert sorted(item.row for item in generated) == list(range(len(prompts)))
    assert {item.row: item.tokens for item in generated} == {item.row: item.tokens for item in wanted}


def test_one_prompt_too_many_is_refused_with_one_line(model):
    full_above(model, 0)
    [prompt] = model.encode(["hello"])
    read = Passage(tuple(prompt), tuple(prompt[:1]))  # reads the prompt and predicts one token after it
    refused = rf"one prompt of {len(prompt)} tokens does not fit in memory \(CUDA out of memory"
    for run in (
        lambda: last_logits(model, [prompt], 100),
        lambda: tracing.resid_pre_moments(model, [prompt], 3, 100),
        lambda: list(generate(model, [prompt], None, 4, 2)),
        lambda: passage_losses(model, [read], 60),
    ):
        with pytest.raises(UserError, match=refused):
            run()


def test_the_smaller_size_is_remembered_and_every_row_runs_once_in_order():
    sizes = []

    def run(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError(FULL)
        return sum(batch)

    done = list(run_batches([[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11]], range(12), run))
    assert [row for batch, _ in done for row in batch] == list(range(12))
    assert all(result == sum(batch) for batch, result in done)
    assert sizes == [7, 3, 3, 1, 3, 2]


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def run(batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(run_batches([[0, 1]], [1, 1], run))


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
