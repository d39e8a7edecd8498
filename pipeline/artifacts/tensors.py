"""Tensors as safetensors with string metadata; never pickle."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.artifacts.files import replacing
from pipeline.errors import UserError

KEY = "provenance"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Safetensors with string metadata, kept as one JSON value: the format does not keep the order of several."""
    with replacing(path) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            {KEY: json.dumps(dict(metadata), sort_keys=True)},
        )


def read_tensors(path: Path, **expected: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file whose metadata has each `expected` value.

    Raises UserError for a missing or damaged file, and for one that belongs to something else.
    """
    metadata = read_metadata(path)
    for key, value in expected.items():
        if metadata.get(key) != value:
            raise UserError(
                f"{path} belongs to {key} '{metadata.get(key)}', not '{value}': run `dvc repro` to make it again"
            )
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        return {name: file.get_tensor(name) for name in names}


def read_metadata(path: Path) -> dict[str, str]:
    """What the file says of its tensors. Raises UserError for a missing or damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get(KEY, "{}"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file ({error}): delete it and run `dvc repro`") from None
