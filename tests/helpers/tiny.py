"""Random tiny models for the cases, and ways to damage them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.disk.headers import INDEX, SINGLE
from pipeline.export.model import proof
from pipeline.maths.directions import Direction
from pipeline.model.loading import loading
from pipeline.model.loading.random_model import write_random_model
from pipeline.progress import byte_progress
from tests.conftest import FAMILY, OPTIONS


def tiny(folder: Path, model_type: str = "qwen2", seed: int = 0, **options: Any) -> Path:
    """A random model in `folder`: untied Qwen 2 of four blocks unless told otherwise."""
    folder.mkdir(exist_ok=True, parents=True)
    write_random_model(folder, model_type, seed, {**OPTIONS, "tie_word_embeddings": False, **options})
    return folder


def opened(folder: Path, family: Any = FAMILY, dtype: str = "float32", note: Any = None) -> loading.ChatModel:
    """The folder's model."""
    return loading.load("tiny", folder, family, dtype, "cpu", **({"note": note} if note else {}))


def exported(folder: Path, family: Any = FAMILY) -> Path:
    """The folder's model with a direction projected out, beside it."""
    out = folder.with_name(folder.name + "-export")
    proof.export(folder, out, family, direction(), byte_progress)
    return out


def direction(width: int = 32) -> Direction:
    """A direction of norm three, drawn once."""
    generator = torch.Generator().manual_seed(3)
    return Direction(3 * torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0).double(), 2, -1)


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder with one file."""
    return load_file(folder / SINGLE)


def store(folder: Path, found: Mapping[str, Tensor]) -> Path:
    """Write them back."""
    save_file(dict(found), folder / SINGLE, {"format": "pt"})
    return folder


def changed(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    """The folder with its tensors changed in place."""
    found = tensors(folder)
    change(found)
    return store(folder, found)


def configured(folder: Path, name: str = "config.json", **values: Any) -> Path:
    """The folder with values of a JSON file changed."""
    path = folder / name
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **values}))
    return folder


def sharded(folder: Path, n: int = 2) -> Path:
    """The folder with its weights in several files and an index."""
    found = tensors(folder)
    (folder / SINGLE).unlink()
    names, files = sorted(found), [f"model-{i + 1:05}-of-{n:05}.safetensors" for i in range(n)]
    place = {name: files[i * n // len(names)] for i, name in enumerate(names)}
    for file in files:
        save_file({name: found[name] for name in names if place[name] == file}, folder / file, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return folder


def gguf_file(path, architecture, tokens):
    """A GGUF file of one tensor, with a tokenizer where there are tokens."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    if tokens:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(list(tokens))
        writer.add_token_merges(["a b"])
    writer.add_tensor("token_embd.weight", numpy.zeros((2, 32), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
