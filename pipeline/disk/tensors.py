"""Tensors as safetensors with string metadata; never pickle.

torch is imported where a tensor is written or read: whoever has tensors has loaded it, and other stages need not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open, serialize_file

from pipeline.disk.files import replacing
from pipeline.errors import UserError, first_line

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


def require(path: Path, holds: bool, wrong: str) -> None:
    """Raises UserError, saying what is wrong with a file, unless what has to be so of it holds."""
    if not holds:
        raise UserError(f"{path} {wrong}: run `dvc repro` to make it again")


def require_direction(path: Path, vector: "Tensor") -> None:
    """Raises UserError for a tensor that is no direction: of other axes or type, NaN, infinite or zero."""
    sound = vector.ndim == 1 and bool(vector.isfinite().all()) and bool(vector.any())
    require(path, sound, "holds no direction (other axes, NaN, infinity or zero)")
    require(path, str(vector.dtype) == "torch.float64", f"has a direction in {vector.dtype}, not in float64")


def read_metadata(path: Path) -> dict[str, str]:
    """What the file says of its tensors. Raises UserError for a missing or damaged file."""
    try:
        with safe_open(path, framework="np") as file:  # the header alone, for which torch need not be loaded
            metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or first_line(error)}): run `dvc repro`") from None
    except ValueError:
        metadata = None
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file ({error}): delete it and run `dvc repro`") from None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UserError(f"{path} does not say what its tensors are of: delete it and run `dvc repro`")
    return metadata
