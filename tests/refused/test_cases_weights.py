"""Weights on disk: what is measured and what is exported are the bytes of whole, plain files, or nothing is."""

import json
import os
import struct
import subprocess
import sys
from typing import Any

import torch

from pipeline.disk.headers import INDEX, SINGLE
from pipeline.export.model import equivalence, proof, streaming
from tests.conftest import ROOT
from tests.helpers.cases import Cases, fails, refused
from tests.helpers.tiny import (
    changed,
    configured,
    direction,
    exported,
    gguf_file,
    opened,
    sharded,
    store,
    tensors,
    tiny,
)

cases = Cases("Weights on disk")
O_PROJ = "model.layers.1.self_attn.o_proj.weight"


@cases("W01", "a tensor that a parameter needs is missing", "refused: names the tensor")
def missing(tmp_path):
    with refused(rf"its files lack '{O_PROJ}'.*fetch the model again"):
        opened(changed(tiny(tmp_path / "m"), lambda found: found.pop(O_PROJ)))


@cases("W01b", "every tensor of a block is missing", "refused: names the first three and counts the others")
def block_missing(tmp_path):
    def drop(found):
        for name in [name for name in found if ".layers.3." in name]:
            del found[name]

    with refused(r"lack 'model.layers.3.*and \d+ more tensors"):
        opened(changed(tiny(tmp_path / "m"), drop))


@cases("W02", "all names carry the prefix of a wrapper", "refused: names what is missing and what is left over")
def prefixed(tmp_path):
    def rename(found):
        for name in list(found):
            found[name.replace("model.", "model.language_model.", 1)] = found.pop(name)

    with refused(r"lack 'model\..* and hold 'model.language_model\."):
        opened(changed(tiny(tmp_path / "m"), rename))


@cases("W03", "one tensor is renamed", "refused: names both")
def renamed(tmp_path):
    def rename(found):
        found["model.layers.1.attention.o_proj.weight"] = found.pop(O_PROJ)

    with refused(rf"lack '{O_PROJ}' and hold 'model.layers.1.attention"):
        opened(changed(tiny(tmp_path / "m"), rename))


@cases("W04", "a tensor has another shape", "refused: names the tensor and both shapes")
def shape(tmp_path):
    with refused(rf"tensor '{O_PROJ}' is 32x16 and its architecture has 32x32"):
        opened(changed(tiny(tmp_path / "m"), lambda found: found.update({O_PROJ: torch.zeros(32, 16)})))


@cases("W04b", "a tensor is transposed", "refused: names the tensor and both shapes")
def transposed(tmp_path):
    name = "model.layers.1.mlp.down_proj.weight"
    with refused(rf"tensor '{name}' is 64x32 and its architecture has 32x64"):
        opened(changed(tiny(tmp_path / "m"), lambda found: found.update({name: found[name].T.contiguous()})))


@cases("W05", "a tensor that nothing reads is left over", "refused: names the tensor")
def left_over(tmp_path):
    with refused(r"hold 'model.layers.1.self_attn.o_proj.bias', which nothing reads"):
        opened(
            changed(
                tiny(tmp_path / "m"), lambda found: found.update({O_PROJ.replace("weight", "bias"): torch.ones(32)})
            )
        )


@cases("W06", "the configuration ties the head, the file's head is another", "exported as measured, head untouched")
def head_of_its_own(tmp_path):
    folder = configured(tiny(tmp_path / "m"), tie_word_embeddings=True)
    model, out = opened(folder), exported(folder)
    assert not torch.equal(model.sites.head.weight, model.hf.get_parameter("model.embed_tokens.weight"))
    assert torch.equal(tensors(out)["lm_head.weight"], tensors(folder)["lm_head.weight"])
    assert torch.equal(opened(out).sites.head.weight, model.sites.head.weight)


@cases("W07", "the configuration ties the head, the file has it twice, equal", "exported, the head kept as it was")
def head_twice(tmp_path):
    folder = configured(tiny(tmp_path / "m"), tie_word_embeddings=True)
    changed(folder, lambda found: found.update({"lm_head.weight": found["model.embed_tokens.weight"].clone()}))
    out = tensors(exported(folder))
    assert torch.equal(out["lm_head.weight"], tensors(folder)["lm_head.weight"])
    assert not torch.equal(out["model.embed_tokens.weight"], out["lm_head.weight"])


@cases("W08", "a whole file and other shards in one folder", "refused: says to remove what is left over")
def whole_and_shards(tmp_path):
    folder = sharded(tiny(tmp_path / "m", seed=1))
    other = tiny(tmp_path / "other")
    (folder / SINGLE).write_bytes((other / SINGLE).read_bytes())
    for call in (opened, exported):
        with refused(rf"holds {SINGLE} and also {INDEX}"):
            call(folder)


@cases("W08b", "an index that names the whole file alone", "read")
def index_of_one(tmp_path):
    folder = tiny(tmp_path / "m")
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(tensors(folder), SINGLE)}))
    assert opened(folder).n_layers == 4


@cases("W08c", "one tensor in two shards", "refused: names the tensor and both files")
def twice(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = sharded(tiny(tmp_path / "m"))
    first, second = sorted(folder.glob("model-*"))
    one = load_file(first)
    name = next(iter(one))
    save_file({**load_file(second), name: one[name]}, second, {"format": "pt"})
    with refused(rf"has tensor '{name}' in model-00001.* and in model-00002"):
        opened(folder)


@cases("W10", "an index that names a shard outside of the folder", "refused, and the export writes nothing there")
def outside(tmp_path):
    folder = sharded(tiny(tmp_path / "m"))
    victim = tmp_path / "outside.safetensors"
    for name in ("../outside.safetensors", str(victim), "sub/x.safetensors", "..\\outside.safetensors", "x.bin"):
        victim.write_bytes(b"somebody else's bytes")
        index = json.loads((folder / INDEX).read_text())
        place = {key: name for key in index["weight_map"]}
        (folder / INDEX).write_text(json.dumps({**index, "weight_map": place}))
        for call in (opened, exported):
            with refused("which is no safetensors file beside it"):
                call(folder)
        assert victim.read_bytes() == b"somebody else's bytes"


@cases("W10b", "an index that is none", "refused")
def no_index(tmp_path):
    folder = sharded(tiny(tmp_path / "m"))
    for text in ("[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {}}'):
        (folder / INDEX).write_text(text)
        with refused("has no weight_map"):
            opened(folder)
    (folder / INDEX).write_text("[" * 100_000)
    with refused("is not JSON|nested"):
        opened(folder)


@cases("W11", "a link to a file outside of the model's folder", "refused: names where it leads")
def link(tmp_path):
    folder, other = tiny(tmp_path / "m"), tiny(tmp_path / "other")
    (folder / SINGLE).unlink()
    (folder / SINGLE).symlink_to(other / SINGLE)
    with refused(r"is a link to .*other/model.safetensors, outside of the model's folder"):
        opened(folder)
    (folder / SINGLE).unlink()
    (folder / SINGLE).write_bytes((other / SINGLE).read_bytes())
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    (folder / "notes.txt").symlink_to(secret)
    with refused(r"notes.txt is a link to .*secret.txt"):
        exported(folder)


@cases("W11b", "links of the hub's cache into its own blobs", "read, and exported as files")
def hub_links(tmp_path):
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/0123"
    tiny(snapshot)
    blobs.mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    assert opened(snapshot).n_layers == 4
    assert not any(path.is_symlink() for path in exported(snapshot).iterdir())


@cases("W12", "a Git LFS pointer in place of the weights", "refused: run `git lfs pull`")
def pointer(tmp_path):
    folder = tiny(tmp_path / "m")
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / SINGLE).write_text(text)
    for call in (opened, exported):
        with refused("is a Git LFS pointer.*git lfs pull"):
            call(folder)


@cases("W13", "a file cut short at any place", "refused")
def cut(tmp_path):
    folder = tiny(tmp_path / "m")
    whole = (folder / SINGLE).read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for size in (0, 3, 8, 8 + header // 2, 8 + header, len(whole) // 2, len(whole) - 1):
        (folder / SINGLE).write_bytes(whole[:size])
        with refused("is not a whole safetensors file|its header promises"):
            opened(folder)
    (folder / SINGLE).write_bytes(whole + b"x")
    with refused("its header promises"):
        opened(folder)


@cases("W14", "headers that lie: lengths, offsets, shapes, types", "refused")
def lies(tmp_path):
    folder = tiny(tmp_path / "m")
    whole = (folder / SINGLE).read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    first, second = (header[name] for name in sorted(names, key=lambda name: header[name]["data_offsets"])[:2])
    lies = [
        (first, {"data_offsets": [0, 10**15]}),
        (first, {"data_offsets": [-4, 4]}),
        (first, {"shape": [10**9, 10**9]}),
        (first, {"shape": [True]}),
        (first, {"dtype": "F128"}),
        (first, {"dtype": "F64"}),
        (second, {"data_offsets": first["data_offsets"], "shape": first["shape"]}),
    ]
    for row, lie in lies:
        honest = dict(row)
        row.update(lie)
        text = json.dumps(header).encode()
        (folder / SINGLE).write_bytes(struct.pack("<Q", len(text)) + text + data)
        row.update(honest)
        with refused("is not a whole safetensors file|its header promises"):
            opened(folder)
    for start in (struct.pack("<Q", 2**62), struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b"null"):
        (folder / SINGLE).write_bytes(start + data)
        with refused("is not a whole safetensors file"):
            opened(folder)


@cases("W15", "a configuration deeper or shallower than the file", "refused: names the blocks' tensors")
def depth(tmp_path):
    folder = tiny(tmp_path / "m", layer_types=None)
    for layers, pattern in ((5, r"lack 'model.layers.4"), (3, r"hold 'model.layers.3")):
        configured(folder, num_hidden_layers=layers, layer_types=["full_attention"] * layers)
        with refused(pattern):
            opened(folder)


@cases("W16", "an index forgets a tensor that its shard has", "read, and exported whole")
def forgotten(tmp_path):
    folder = sharded(tiny(tmp_path / "m"))
    index = json.loads((folder / INDEX).read_text())
    del index["weight_map"][O_PROJ]
    (folder / INDEX).write_text(json.dumps(index))
    assert opened(exported(folder)).n_layers == 4


@cases("W17", "a shard is missing", "refused: names the file")
def no_shard(tmp_path):
    folder = sharded(tiny(tmp_path / "m"))
    next(folder.glob("model-00002*")).unlink()
    with refused("model-00002-of-00002.safetensors is missing"):
        opened(folder)


@cases("W18", "an index promises a tensor that its shard lacks", "refused: names the tensor")
def promised(tmp_path):
    folder = sharded(tiny(tmp_path / "m"))
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.extra"] = index["weight_map"][O_PROJ]
    (folder / INDEX).write_text(json.dumps(index))
    with refused("lacks tensor 'model.extra'"):
        opened(folder)


@cases("W19", "the configuration names its weights' file itself", "refused")
def named_weights(tmp_path):
    folder = configured(tiny(tmp_path / "m"), transformers_weights="other.safetensors")
    (folder / "other.safetensors").write_bytes((tiny(tmp_path / "o", seed=1) / SINGLE).read_bytes())
    with refused("transformers_weights"):
        opened(folder)


@cases("W20", "pickled weights, an adapter's folder, weights in eight bits", "refused, each by name")
def other_kinds(tmp_path):
    folder = tiny(tmp_path / "m")
    found = tensors(folder)
    (folder / "adapter_config.json").write_text("{}")
    with refused("is an adapter: merge it"):
        opened(folder)
    (folder / "adapter_config.json").unlink()
    store(folder, {**found, O_PROJ: found[O_PROJ].to(torch.float8_e4m3fn)})
    with refused(rf"'{O_PROJ}' is stored as F8_E4M3"):
        opened(folder)
    (folder / SINGLE).unlink()
    torch.save(found, folder / "pytorch_model.bin")
    with refused("model.safetensors is missing"):
        opened(folder)
    configured(folder, quantization_config={"quant_method": "fp8"})
    with refused("quantised by fp8"):
        opened(folder)


@cases("W21", "NaN in a row that no prompt reads", "measured; the export is refused, naming the tensor")
def nan(tmp_path):
    folder = tiny(tmp_path / "m")
    changed(folder, lambda found: found["model.embed_tokens.weight"][1].fill_(float("nan")))
    with refused("'model.embed_tokens.weight' holds NaN"):
        exported(folder)


@cases("W22", "weights in float64, and float16 with large numbers", "read, and exported in their own dtype")
def dtypes(tmp_path):
    for dtype in (torch.float64, torch.float16):
        folder = tiny(tmp_path / str(dtype))
        store(folder, {name: value.to(dtype) for name, value in tensors(folder).items()})
        assert {value.dtype for value in tensors(exported(folder)).values()} == {dtype}


@cases(
    "W23",
    "GGUF: unknown architecture, no tokenizer, a damaged one (its library panics), lacking tensors; no chat template",
    "refused, each",
)
def gguf_kinds(tmp_path):
    from pipeline.disk.locks import publish_folder
    from pipeline.model.loading.gguf import converted

    whole = ("a", "b", "ab")
    kinds = [("nope", whole), ("qwen2", ()), ("qwen2", ("a", "b")), ("qwen2", whole)]
    files = [gguf_file(tmp_path / f"{i}.gguf", *kind) for i, kind in enumerate(kinds)]
    (tmp_path / "text.gguf").write_text("no model")
    for path in (*files, tmp_path / "text.gguf"):
        with refused(r"does not load as a GGUF model|lack"):
            converted(path, tmp_path / "out", publish_folder)
        assert not (tmp_path / "out").exists()
    folder = tiny(tmp_path / "m")
    (folder / "chat_template.jinja").unlink()
    with refused("has no chat template"):
        opened(folder)


@cases(
    "W09", "an export that is not equal to live ablation, of a family called exact", "refused: which bound, by how much"
)
def unequal(tmp_path):
    folder = tiny(tmp_path / "m")
    model = opened(folder)
    found = equivalence.compare(model, model, model.encode(["hello"]), direction(), 4, 10_000)
    with refused(r"the export is not equal to live ablation: .* is \S+, and the bound in float32 is"):
        proof.require_equal(found, True, "float32")


@cases("W24", "a FIFO or a folder where the weights should be", "refused, at once")
def no_file(tmp_path):
    folder = tiny(tmp_path / "m")
    (folder / SINGLE).unlink()
    os.mkfifo(folder / SINGLE)
    with refused("is no file"):
        opened(folder)
    (folder / SINGLE).unlink()
    (folder / SINGLE).mkdir()
    with refused("is no file"):
        opened(folder)


@cases("W25", "a skipped and a scaled edit in the export's writer", "refused: names the tensor, nothing is kept")
def wrong_edit(tmp_path, monkeypatch):
    plain = streaming.Plan.edit
    folder = tiny(tmp_path / "m")

    def skipped(self, name, tensor):
        if name != O_PROJ:
            plain(self, name, tensor)

    def scaled(self, name, tensor):
        plain(self, name, tensor)
        if name == O_PROJ:
            tensor.mul_(1.0001)

    for wrong in (skipped, scaled):
        monkeypatch.setattr(streaming.Plan, "edit", wrong)
        with refused(f"tensor '{O_PROJ}' of the export is not its source with the direction projected out"):
            exported(folder)
        assert not (tmp_path / "m-export").exists()


@cases("W26", "a direction of another model's width", "refused")
def width(tmp_path):
    from pipeline.progress import byte_progress
    from tests.conftest import FAMILY

    with refused("the direction has 16 components"):
        proof.export(tiny(tmp_path / "m"), tmp_path / "out", FAMILY, direction(16), byte_progress)


@cases("W27", "a folder without config.json, or with a damaged one", "refused by the command too")
def no_config(tmp_path):
    folder = tiny(tmp_path / "m")
    for text in ("", "[]", "null", '"x"', "{", "[" * 100_000):
        (folder / "config.json").write_text(text)
        with refused("config.json|architecture"):
            opened(folder)
    (folder / "config.json").unlink()
    command = [sys.executable, "-m", "pipeline", "check", str(folder)]
    fails(subprocess.run(command, cwd=ROOT, capture_output=True, text=True), "config.json")


@cases("W28", "numbers of the configuration that cannot be", "refused")
def odd_config(tmp_path):
    odd: list[Any] = [{"hidden_size": -1}, {"hidden_size": "32"}, {"vocab_size": None}, {"num_attention_heads": 0}]
    for values in odd:
        with refused("does not load|architecture|lack"):
            opened(configured(tiny(tmp_path / "m"), **values))


test_cases = cases.test()
