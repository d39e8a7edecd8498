"""Damaged safetensors headers, indexes and configurations: a value or one line for the user, never a traceback."""

import json
import random
import struct
from pathlib import Path

import pytest
import torch

from pipeline.disk import headers
from pipeline.disk.checkpoint import open_checkpoint
from pipeline.disk.headers import INDEX, SINGLE
from pipeline.model.loading import whole
from pipeline.model.loading.loading import model_type
from tests.helpers.fuzz import SEED, N, crashes, mutated
from tests.helpers.tiny import sharded, store

SMALL = {f"model.layers.{i}.w": torch.arange(6.0).reshape(2, 3) + i for i in range(3)} | {"b": torch.ones(2).half()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return store(tmp_path_factory.mktemp("whole"), SMALL)


def test_headers(folder, tmp_path):
    """Each header that is read promises exactly the bytes that are there."""
    content = (folder / SINGLE).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + length], content[8 + length :]

    def read(given: bytes) -> None:
        # With its length mended, since most damage would end there otherwise.
        text = given if len(given) % 5 else given[8:]
        (tmp_path / SINGLE).write_bytes(given if len(given) % 5 == 0 else struct.pack("<Q", len(text)) + text + data)
        found = open_checkpoint(tmp_path)
        size = (tmp_path / SINGLE).stat().st_size
        for name, row in found.tensors.items():
            assert 0 <= row.start <= row.end <= size, row
            if row.dtype in ("F16", "BF16", "F32", "F64"):
                assert found.read(name).nbytes == row.n_bytes, row

    assert not crashes(read, [header, content])


def test_indexes(tmp_path):
    """No index names a file outside of its folder and is read."""
    folder = sharded(store(tmp_path, SMALL))
    content = (folder / INDEX).read_bytes()
    paths = [b'"weight_map": {"b": "../x.safetensors"}', b'"/etc/passwd"', b'"model-00001-of-00002.safetensors"']

    def read(given: bytes) -> None:
        (folder / INDEX).write_bytes(given)
        named = headers.weight_map(folder) or {}
        assert all(file == Path(file).name for file in named.values()), named
        open_checkpoint(folder)

    assert not crashes(read, [content, *paths])


def test_configurations(folder, tmp_path):
    """config.json of a model folder, up to where the library reads it."""
    content = json.dumps({"model_type": "qwen2", "hidden_size": 32, "auto_map": {}, "quantization_config": None})
    store(tmp_path, SMALL)

    def read(given: bytes) -> None:
        (tmp_path / "config.json").write_bytes(given)
        assert isinstance(model_type("m", tmp_path), str)
        whole.require_files("m", tmp_path)

    assert not crashes(read, [content.encode()])


def test_a_planted_crash_is_found(folder, tmp_path):
    """A reader that trips over a tensor of another name, as a few inputs have."""
    content = (folder / SINGLE).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]

    def planted(given: bytes) -> None:
        (tmp_path / SINGLE).write_bytes(struct.pack("<Q", len(given)) + given + content[8 + length :])
        found, _ = headers.read_header(tmp_path, SINGLE)
        if set(found) != set(SMALL):
            raise KeyError("planted")

    assert crashes(planted, [content[8 : 8 + length]])


def test_damage_is_damage():
    """Most inputs differ from the seed, and a seed repeats them."""
    draw, again = random.Random(SEED), random.Random(SEED)
    some = [mutated(b"abc" * 20, [b"x"], draw) for _ in range(50)]
    assert some == [mutated(b"abc" * 20, [b"x"], again) for _ in range(50)]
    assert sum(each != b"abc" * 20 for each in some) > 40
    assert N > 0
