"""A 3 GiB model of several shards, exported by the command: peak memory, kill -9, the same hashes."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from pipeline.artifacts.provenance import identity
from pipeline.artifacts.records import write_direction
from pipeline.config.opening import SourceConfig
from pipeline.disk import checkpoint
from pipeline.maths.directions import Direction
from tests.conftest import ROOT
from tests.helpers.stop import killed

GIB = 2**30
WIDTH, INNER, LAYERS, VOCABULARY, LAYERS_PER_SHARD = 2048, 5632, 28, 32000, 4
NEEDED_DISK = 8 * GIB

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A llama of 1.5 billion random bfloat16 numbers; blocks differ by a factor, which is quicker than by draws."""
    folder = tmp_path_factory.mktemp("large") / "source"
    folder.mkdir()
    if shutil.disk_usage(folder).free < NEEDED_DISK:
        pytest.skip(f"needs {NEEDED_DISK / GIB:.0f} GiB of disk")
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.bfloat16)

    sizes = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (WIDTH, WIDTH), "self_attn.v_proj": (WIDTH, WIDTH)}
    sizes |= {"self_attn.o_proj": (WIDTH, WIDTH), "mlp.gate_proj": (INNER, WIDTH), "mlp.up_proj": (INNER, WIDTH)}
    sizes |= {"mlp.down_proj": (WIDTH, INNER), "input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,)}
    block = {name: draw(*shape) for name, shape in sizes.items()}
    ends = {"model.embed_tokens.weight": draw(VOCABULARY, WIDTH), "model.norm.weight": draw(WIDTH)}
    shards = [{**ends, "lm_head.weight": draw(VOCABULARY, WIDTH)}]
    for first in range(0, LAYERS, LAYERS_PER_SHARD):
        layers = range(first, first + LAYERS_PER_SHARD)
        shards.append({f"model.layers.{i}.{k}.weight": v * (1 + i) for i in layers for k, v in block.items()})
    weight_map = {}
    for number, tensors in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    (folder / checkpoint.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=16,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def command(folder):
    vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    file = folder.parent / "direction.safetensors"
    write_direction(file, Direction(vector, 10, -1), identity(SourceConfig(kind="folder", path=str(folder))))
    overrides = ["model.source.kind=folder", f"+model.source.path={folder}"]

    def build(out):
        program = [sys.executable, "-m", "pipeline", "orthogonalize", "smollm2_135m"]
        return [*program, "--direction", str(file), "--out", str(out), *overrides]

    return build


def start(command):
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Exit status, peak resident memory in bytes, and what was said on standard error.

    The peak is the kernel's own (VmHWM), read until the end; the one that `wait` returns would also
    count this process, whose memory a child has until it starts its program.
    """
    assert process.stderr is not None
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.01)
    return process.returncode, peak, process.stderr.read()


def test_a_killed_export_goes_on_ends_in_the_same_hashes_and_stays_small(folder, command, tmp_path, record_property):
    shards = {path.name: path.stat().st_size for path in folder.glob("*.safetensors")}
    assert sum(shards.values()) > 2.9 * GIB
    bound = max(shards.values()) + GIB

    killed(command(tmp_path / "killed"), f"*/.killed.partial-*/.{checkpoint.FINISHED}.*", 2, cwd=ROOT)
    [noted] = tmp_path.glob(f".killed.partial-*/{checkpoint.FINISHED}")
    assert not (tmp_path / "killed").exists()
    done = json.loads(noted.read_text())
    assert 0 < len(done) < len(shards)
    written = {name: (noted.parent / name).stat().st_mtime_ns for name in done}

    status, peak, error = finish(start(command(tmp_path / "killed")))
    assert status == 0, error
    assert {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in done} == written
    sums = (tmp_path / "killed" / checkpoint.SUMS).read_text()
    shutil.rmtree(tmp_path / "killed")

    status, peak_whole, error = finish(start(command(tmp_path / "whole")))
    assert status == 0, error
    assert (tmp_path / "whole" / checkpoint.SUMS).read_text() == sums
    record_property("peak_gib", round(max(peak, peak_whole) / GIB, 3))
    print(f"peak {max(peak, peak_whole) / GIB:.3f} GiB of at most {bound / GIB:.3f} GiB")
    assert 0.1 * GIB < max(peak, peak_whole) <= bound

    index = json.loads((tmp_path / "whole" / checkpoint.INDEX).read_text())
    assert len(index["weight_map"]) == 9 * LAYERS + 3
    edited = checkpoint.open_checkpoint(tmp_path / "whole")
    vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w = edited.read("model.layers.27.mlp.down_proj.weight").double()
    # What bfloat16 storage leaves of a component that was about |w| / sqrt(d).
    assert (vector / vector.norm() @ w).abs().max() < 0.01 * w.norm(dim=0).max()
