"""Tensors as safetensors with string metadata; never pickle.

torch is imported where a tensor is written or read: whoever has tensors has loaded it, and other stages need not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open, serialize_file

from pipeline.artifacts.files import replacing
from pipeline.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

KEY = "provenance"


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> None:
    """Safetensors with string metadata, kept as one JSON value: the format does not keep the order of several."""
    header = {KEY: json.dumps(dict(metadata), sort_keys=True)}
    with replacing(path) as temporary:
        if not tensors:  # of a stage that had nothing to do
            serialize_file({}, temporary, header)
            return
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, header)


def read_tensors(path: Path, **expected: str) -> dict[str, "Tensor"]:
    """Tensors of a safetensors file whose metadata has each `expected` value.

    Raises UserError for a missing or damaged file, and for one that belongs to something else.
    """
    return _read(path, "pt", expected)


def read_arrays(path: Path, **expected: str) -> dict[str, "np.ndarray"]:
    """The same as numpy arrays, which need no torch; of types that numpy has."""
    return _read(path, "np", expected)


def _read(path: Path, framework: str, expected: Mapping[str, str]) -> dict[str, Any]:
    metadata = read_metadata(path)
    for key, value in expected.items():
        if metadata.get(key) != value:
            raise UserError(
                f"{path} belongs to {key} '{metadata.get(key)}', not '{value}': run `dvc repro` to make it again"
            )
    with safe_open(path, framework=framework) as file:
        names = list(file.keys())
        return {name: file.get_tensor(name) for name in names}


def read_metadata(path: Path) -> dict[str, str]:
    """What the file says of its tensors. Raises UserError for a missing or damaged file."""
    try:
        with safe_open(path, framework="np") as file:  # the header alone, for which torch need not be loaded
            return json.loads((file.metadata() or {}).get(KEY, "{}"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file ({error}): delete it and run `dvc repro`") from None
