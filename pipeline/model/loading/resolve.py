"""From a model's source to a verified local folder of safetensors, and a name for its exact bytes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers

from pipeline.artifacts.provenance import converted_recipe, random_recipe
from pipeline.disk.files import RECIPE
from pipeline.disk.locks import publish_folder
from pipeline.errors import UserError
from pipeline.model.loading import gguf, random_model
from pipeline.model.loading.foreign import Watch, unwatched
from pipeline.sources import Artefact, fetch, fetch_repo


def gguf_folder(
    file: str,
    sha256: str,
    places: tuple[str, ...],
    cache: Path,
    mirror: Path | None,
    watch: Watch = unwatched,
    note: Callable[[str], None] = lambda text: None,
) -> Path:
    """Fetch a GGUF file by its sha256 and convert it, once per version of transformers and of the code that does it."""
    path = fetch(Artefact(file, sha256, places), cache, mirror)
    target = cache / "converted" / f"{converted_recipe(sha256)}-transformers-{transformers.__version__}"
    return gguf.converted(path, target, publish_folder, watch, note)


def hub_folder(repo: str, revision: str, cache: Path, mirror: Path | None) -> Path:
    """A hub repository of safetensors at a pinned revision."""
    return fetch_repo(repo, revision, cache, mirror)


def local_folder(path: Path) -> Path:
    """A folder that already holds a model. Raises UserError when it does not."""
    if (path / RECIPE).exists():
        raise UserError(
            f"{path} holds the proof of an export and no weights: make them with "
            f"`python -m pipeline orthogonalize NAME --recipe {path} --out FOLDER`"
        )
    if not (path / "config.json").exists():
        raise UserError(f"{path} holds no model (no config.json): set model.source.path to a model folder")
    return path


def random_folder(model_type: str, seed: int, options: Mapping[str, Any], cache: Path) -> Path:
    """A random tiny model, made once per recipe."""
    recipe = random_recipe(model_type, seed, options)
    target = cache / "random" / f"{recipe}-transformers-{transformers.__version__}"
    if target.exists():
        return target
    return publish_folder(
        target, lambda folder: random_model.write_random_model(folder, model_type, seed, dict(options))
    )
