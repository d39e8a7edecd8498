"""Checkpoints rewritten on disk: the bytes of the in-memory edit, whatever the layout, dtype or interruption."""

import json
import shutil
import struct
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.compose import compose, family
from pipeline.config.schema import Config
from pipeline.disk import checkpoint, files, locks
from pipeline.entry.export import orthogonalize
from pipeline.errors import UserError
from pipeline.export.model import streaming, surgery
from pipeline.maths.directions import Direction
from pipeline.model.loading import loading
from pipeline.model.loading.random_model import write_random_model
from pipeline.progress import byte_progress
from pipeline.stages.export import export as export_stage
from tests.conftest import write_selection

SHARD = "40KB"


@pytest.fixture
def direction():
    generator = torch.Generator().manual_seed(3)
    return Direction(torch.randn(32, generator=generator, dtype=torch.float64), layer=2, position=-1)


def source(folder, name="qwen2", dtype=torch.float32, shard="50GB", **options):
    """A tiny model of the family, saved in that dtype and in shards of that size."""
    described = family(name)
    scratch = folder.with_name(folder.name + "-float32")
    scratch.mkdir()
    write_random_model(scratch, described.tiny["model_type"], 0, {**described.tiny["options"], **options})
    hf = AutoModelForCausalLM.from_pretrained(scratch, dtype=dtype)
    shutil.copytree(scratch, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    hf.save_pretrained(folder, max_shard_size=shard)
    return folder


def in_memory(folder, target, direction, name="qwen2", dtype="float32"):
    model = loading.load("m", folder, family(name), dtype, "cpu")
    surgery.untie(model)
    surgery.orthogonalize_weights(model, direction)
    model.hf.save_pretrained(target)
    return {key: value for file in target.glob("*.safetensors") for key, value in load_file(file).items()}


def tensors(folder):
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shard", ["50GB", SHARD])
@pytest.mark.parametrize("name", ["qwen2", "mixtral", "gpt_oss", "gemma2"])
def test_streamed_bytes_are_those_of_the_in_memory_edit(tmp_path, direction, name, dtype, shard):
    folder = source(tmp_path / "source", name, loading.DTYPES[dtype], shard)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (shard == SHARD)
    streaming.export(folder, tmp_path / "export", family(name), direction, byte_progress)
    ours, theirs = tensors(tmp_path / "export"), in_memory(folder, tmp_path / "memory", direction, name, dtype)
    assert ours.keys() == theirs.keys()
    stored = tensors(folder)  # gpt-oss keeps some parameters in float32
    assert all(value.dtype == stored.get(key, value).dtype for key, value in ours.items())
    assert loading.DTYPES[dtype] in {value.dtype for value in ours.values()}
    for key, value in theirs.items():
        assert torch.equal(ours[key].view(torch.uint8), value.view(torch.uint8)), key
    if shard != SHARD:
        assert files.file_hash(tmp_path / "export" / checkpoint.SINGLE) == files.file_hash(
            tmp_path / "memory" / checkpoint.SINGLE
        )


def test_the_export_has_all_that_a_model_folder_has_and_hashes_last(tmp_path, direction):
    folder = source(tmp_path / "source", shard=SHARD)
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    export = tmp_path / "export"
    streaming.export(folder, export, family("qwen2"), direction, byte_progress)
    names = {path.name for path in export.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert not names & {"modeling_evil.py", "pytorch_model.bin", checkpoint.FINISHED}
    lines = [line.split("  ") for line in (export / checkpoint.SUMS).read_text().splitlines()]
    sums = {name: sha for sha, name in lines}
    assert sums == {name: files.file_hash(export / name) for name in names - {checkpoint.SUMS}}
    index = json.loads((export / checkpoint.INDEX).read_text())
    assert "lm_head.weight" in index["weight_map"]
    reloaded = AutoModelForCausalLM.from_pretrained(export)
    assert not reloaded.config.tie_word_embeddings


def test_a_checkpoint_of_the_bare_model_is_read_as_its_loader_reads_it(tmp_path, direction):
    """GPT-2's repository names tensors without `transformer.` and stores a mask that is no parameter."""
    folder = source(tmp_path / "source", "gpt2")
    stored = {key.removeprefix("transformer."): value for key, value in tensors(folder).items()}
    save_file({**stored, "h.0.attn.bias": torch.ones(1, 1, 4, 4)}, folder / checkpoint.SINGLE, {"format": "pt"})
    streaming.export(folder, tmp_path / "export", family("gpt2"), direction, byte_progress)
    expected = in_memory(folder, tmp_path / "memory", direction, "gpt2")
    exported = loading.load("m", tmp_path / "export", family("gpt2"), "float32", "cpu")
    for key, value in expected.items():
        assert torch.equal(exported.hf.get_parameter(key), value), key


def test_a_checkpoint_named_as_older_libraries_did_is_read_as_its_loader_reads_it(tmp_path, direction):
    """Gemma 3's repositories put the language model and the vision tower beside each other."""
    folder = source(tmp_path / "source", "gemma3_multimodal")
    older = {"model.language_model.": "language_model.model.", "model.vision": "vision", "model.multi": "multi"}
    stored = {}
    for key, value in tensors(folder).items():
        for new, old in older.items():
            key = old + key.removeprefix(new) if key.startswith(new) else key
        stored[key] = value
    assert any(key.startswith("language_model.model.layers") for key in stored)
    save_file(stored, folder / checkpoint.SINGLE, {"format": "pt"})
    streaming.export(folder, tmp_path / "export", family("gemma3_multimodal"), direction, byte_progress)
    model = loading.load("m", folder, family("gemma3_multimodal"), "float32", "cpu")
    surgery.untie(model)
    surgery.orthogonalize_weights(model, direction)
    exported = loading.load("m", tmp_path / "export", family("gemma3_multimodal"), "float32", "cpu")
    for key, value in model.hf.named_parameters():
        assert torch.equal(exported.hf.get_parameter(key), value), key


class Interrupted(BaseException):
    """As final as a signal: nothing catches it."""


def interrupt_after(n_tensors):
    @contextmanager
    def progress(_description, _total):
        left = iter(range(n_tensors))

        def advance(_n):
            if next(left, None) is None:
                raise Interrupted

        yield advance

    return progress


@pytest.mark.parametrize("n_tensors", [0, 7, 30])
def test_an_interrupted_export_goes_on_and_ends_in_the_same_bytes(tmp_path, direction, n_tensors):
    folder = source(tmp_path / "source", shard=SHARD)
    streaming.export(folder, tmp_path / "whole", family("qwen2"), direction, byte_progress)
    export = tmp_path / "export"
    with pytest.raises(Interrupted):
        streaming.export(folder, export, family("qwen2"), direction, interrupt_after(n_tensors))
    assert not (export / checkpoint.INDEX).exists()
    assert not (export / checkpoint.SUMS).exists()
    kept = {path: path.stat().st_mtime_ns for path in export.glob("*.safetensors")}
    assert bool(kept) == (n_tensors > 0)
    streaming.export(folder, export, family("qwen2"), direction, byte_progress)
    assert (export / checkpoint.SUMS).read_text() == (tmp_path / "whole" / checkpoint.SUMS).read_text()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_finished_file_that_was_damaged_since_is_written_again(tmp_path, direction):
    folder = source(tmp_path / "source", shard=SHARD)
    export = tmp_path / "export"
    streaming.export(folder, export, family("qwen2"), direction, byte_progress)
    sums = (export / checkpoint.SUMS).read_text()
    victim = sorted(export.glob("*.safetensors"))[0]
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00\x01")
    streaming.export(folder, export, family("qwen2"), direction, byte_progress)
    assert (export / checkpoint.SUMS).read_text() == sums
    assert f"{files.file_hash(victim)}  {victim.name}" in sums


@pytest.mark.parametrize("name", [checkpoint.SUMS, checkpoint.FINISHED])
@pytest.mark.parametrize("text", ["no note", "[1]", '{"a": '])
def test_half_a_file_and_a_damaged_note_of_a_killed_export_do_not_stay(tmp_path, direction, name, text):
    folder, export = source(tmp_path / "source", shard=SHARD), tmp_path / "export"
    streaming.export(folder, export, family("qwen2"), direction, byte_progress)
    whole = {path.name: path.read_bytes() for path in export.iterdir()}
    (export / checkpoint.SUMS).unlink()
    (export / ".model.safetensors.k1l2").write_bytes(b"half")
    (export / name).write_text(text)
    streaming.export(folder, export, family("qwen2"), direction, byte_progress)
    assert {path.name: path.read_bytes() for path in export.iterdir()} == whole


def test_too_little_disk_is_refused_before_anything_is_written(tmp_path, direction, monkeypatch):
    folder = source(tmp_path / "source")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 1000))
    with pytest.raises(UserError, match=r"needs 0.00 GiB more and its disk has 0.00 GiB free.*nothing was written"):
        streaming.export(folder, tmp_path / "export", family("qwen2"), direction, byte_progress)
    assert list((tmp_path / "export").iterdir()) == []


def test_a_tensor_of_a_file_that_was_cut_since_is_refused(tmp_path):
    file = tmp_path / checkpoint.SINGLE
    save_file({"w": torch.arange(6.0)}, file)
    opened = checkpoint.open_checkpoint(tmp_path)
    assert torch.equal(opened.read("w"), torch.arange(6.0))
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match="cannot be read"):
        opened.read("w")


def test_tensors_lie_where_the_header_says_whatever_their_type(tmp_path):
    """Two of six bits and four take whole bytes together; types without a name in torch have a place too."""
    rows = [("F6_E2M3", [4], 3), ("F4", [2], 1), ("F8_E5M2FNUZ", [2], 2), ("BOOL", [3], 3), ("C64", [1], 8)]
    rows += [("F32", [0, 2], 0), ("BF16", [], 2)]
    header, at = {}, 0
    for number, (dtype, shape, size) in enumerate(rows):
        header[f"z{-number}"] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at := at + size]}
    text = json.dumps(header).encode()
    (tmp_path / checkpoint.SINGLE).write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    places = checkpoint.open_checkpoint(tmp_path).tensors
    for name, row in header.items():
        place = places[name]
        assert [place.start - 8 - len(text), place.end - 8 - len(text)] == row["data_offsets"], name
        assert (place.dtype, list(place.shape)) == (row["dtype"], row["shape"])


def missing_shard(folder):
    sorted(folder.glob("*.safetensors"))[1].unlink()


def truncated(folder):
    file = sorted(folder.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-100])


def no_header(folder):
    sorted(folder.glob("*.safetensors"))[0].write_bytes(b"\x01")


def huge_header(folder):
    sorted(folder.glob("*.safetensors"))[0].write_bytes(struct.pack("<Q", 2**62))


def lost_tensor(folder):
    index = json.loads((folder / checkpoint.INDEX).read_text())
    index["weight_map"]["model.extra.weight"] = sorted(folder.glob("*.safetensors"))[0].name
    (folder / checkpoint.INDEX).write_text(json.dumps(index))


def lost_writer(folder):
    index = json.loads((folder / checkpoint.INDEX).read_text())
    name = "model.layers.1.mlp.down_proj.weight"
    file = folder / index["weight_map"].pop(name)
    save_file({key: value for key, value in load_file(file).items() if key != name}, file, {"format": "pt"})
    (folder / checkpoint.INDEX).write_text(json.dumps(index))


def with_nan(folder):
    for file in folder.glob("*.safetensors"):
        rows = load_file(file)
        for name in rows:
            if name.endswith("layers.2.mlp.down_proj.weight"):
                rows[name][0, 0] = float("nan")
        save_file(rows, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing_shard, "is missing: fetch the model again"),
        (truncated, r"has \d+ bytes and its header promises \d+"),
        (no_header, "is not a whole safetensors file"),
        (huge_header, "is not a whole safetensors file"),
        (lost_tensor, "lacks tensor 'model.extra.weight'"),
        (lost_writer, "0 of the 2,048 numbers of 'model.layers.1.mlp.down_proj.weight'"),
        (with_nan, "'model.layers.2.mlp.down_proj.weight' holds NaN"),
    ],
)
def test_damaged_checkpoints_are_one_clear_line(tmp_path, direction, damage, message):
    folder = source(tmp_path / "source", shard=SHARD)
    damage(folder)
    with pytest.raises(UserError, match=message):
        streaming.export(folder, tmp_path / "export", family("qwen2"), direction, byte_progress)
    assert not (tmp_path / "export" / checkpoint.SUMS).exists()


def test_a_direction_of_another_width_is_refused(tmp_path):
    narrow = Direction(torch.ones(16, dtype=torch.float64), 2, -1)
    with pytest.raises(UserError, match=r"the direction has 16 components and 'model.embed_tokens.weight' writes 32"):
        streaming.export(source(tmp_path / "source"), tmp_path / "export", family("qwen2"), narrow, byte_progress)
    assert not (tmp_path / "export").exists()


# --- the command, and the stage that does not export


def command(folder, direction, tmp_path, *overrides, model="tiny", pinned=None):
    overrides = ["model.source.kind=folder", f"+model.source.path={folder}", *overrides]
    config = OmegaConf.to_object(compose(model, "smoke", overrides))
    assert isinstance(config, Config)
    file = tmp_path / "direction.safetensors"
    records.write_direction(file, direction, pinned or identity(config.model.source))
    return orthogonalize(config, file, tmp_path / "out")


def test_the_command_writes_a_model_that_loads_with_its_coverage_and_card(tmp_path, direction):
    folder = source(tmp_path / "source")
    coverage = command(folder, direction, tmp_path)
    assert coverage["n_edited"] == coverage["n_writers"] == 9
    out = tmp_path / "out"
    assert json.loads((out / "coverage.json").read_text())["untied"] is True
    card = (out / "README.md").read_text()
    assert "Do not deploy it" in card
    assert "on 9 of 9 parameters" in card
    assert "behaviour | not measured" in card
    loading.load("m", out, family("qwen2"), "float32", "cpu")
    assert not list(tmp_path.glob(".out*")), "nothing unfinished is left"
    with pytest.raises(UserError, match="is there already: remove it, or name another folder"):
        command(folder, direction, tmp_path)


def test_of_two_commands_that_write_one_folder_the_second_waits_and_says_that_it_is_there(
    tmp_path, direction, monkeypatch
):
    said = SimpleQueue()
    monkeypatch.setattr(locks, "note", said.put)
    folder = source(tmp_path / "source")
    with ThreadPoolExecutor() as pool:
        with locks.only_writer(tmp_path / ".out.lock", "tests"):
            both = [pool.submit(command, folder, direction, tmp_path) for _ in range(2)]
            assert all("waiting for" in said.get(timeout=120) for _ in both)
            assert not any(one.done() for one in both)
            assert not (tmp_path / "out").exists()
            assert not list(tmp_path.glob(".out.partial*"))
        errors = [one.exception(120) for one in both]
    [refused] = [error for error in errors if error]
    assert isinstance(refused, UserError)
    assert "is there already" in str(refused)
    assert (tmp_path / "out" / checkpoint.SUMS).exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pinned": "sha256:0"}, "belongs to model 'sha256:0', not 'folder:"),
        ({"model": "gemma_2b"}, "has architecture 'qwen2', but family 'gemma' describes gemma"),
        ({"model": "qwen_7b"}, "code from repositories is never run here"),
    ],
)
def test_the_command_refuses_what_does_not_belong_together(tmp_path, direction, wrong, message):
    folder = source(tmp_path / "source")
    with pytest.raises(UserError, match=message):
        command(folder, direction, tmp_path, **wrong)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "source-float32", "direction.safetensors"}


def test_a_direction_with_nan_is_refused(tmp_path, direction):
    broken = Direction(direction.vector * float("nan"), 2, -1)
    with pytest.raises(UserError, match="holds no direction"):
        command(source(tmp_path / "source"), broken, tmp_path)


def test_a_run_in_four_bits_exports_nothing_and_says_from_what_to_export(tmp_path, direction):
    config = OmegaConf.to_object(compose("tiny", "smoke", ["engine.quantize=4bit"]))
    assert isinstance(config, Config)
    layout = Layout("tiny", "smoke", tmp_path)
    records.write_direction(layout.direction, direction, identity(config.model.source))
    write_selection(layout.selection, layer=2, position=-1)
    export_stage(config, layout)
    written = files.read_json(layout.equivalence)
    assert written["exported"] is False
    assert 'export with engine.quantize=""' in written["reason"]
    assert not list(layout.export.glob("*.safetensors"))
