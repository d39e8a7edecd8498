"""What a result depends on, with nothing that changes from run to run."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.artifacts import files
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config, SourceConfig
from pipeline.errors import UserError

RANDOM_MODEL = Path(__file__).parents[1] / "model" / "random_model.py"
PACKAGES = ("torch", "transformers", "nnsight", "safetensors", "scipy", "statsmodels")


def identity(source: SourceConfig) -> str:
    """What pins a model's bytes: a sha256, a repository at a commit, or a recipe."""
    match source.kind:
        case "gguf":
            return f"sha256:{source.sha256}"
        case "hub":
            return f"{source.repo}@{source.revision}"
        case "folder":
            return f"folder:{_weights_hash(Path(source.path))}"
        case _:
            return f"random:{random_recipe(source.model_type, source.seed, source.options)}"


def random_recipe(model_type: str, seed: int, options: Mapping[str, Any]) -> str:
    """Hash of what makes a random model, the code that makes it included."""
    return files.content_hash([files.file_hash(RANDOM_MODEL), model_type, seed, dict(options)])[:16]


def _weights_hash(folder: Path) -> str:
    weights = {file.name: files.file_hash(file) for file in folder.glob("*.safetensors")}
    if not weights:
        raise UserError(f"{folder} holds no safetensors: set model.source.path to a model folder")
    return files.content_hash(weights)


def provenance(config: Config, layout: Layout, model: str) -> dict[str, Any]:
    """Model bytes, configuration and data hashes, dtype and package versions."""
    audit = files.read_json(layout.audit)
    return {
        "model": model,
        "config": files.file_hash(layout.config),
        "data": config.data.name,
        "data_revision": files.content_hash(audit["hashes"])[:16],
        "dtype": config.engine.dtype,
        "quantize": config.engine.quantize,
        "seed": config.seed,
        "packages": {name: version(name) for name in PACKAGES},
    }


def stamp(config: Config, layout: Layout, model: str) -> str:
    """One line for figures: which model and which data."""
    facts = provenance(config, layout, model)
    data = f"data {facts['data']} {facts['data_revision']}"
    return f"model {model[:28]}  |  {data}  |  {facts['dtype']}, seed {facts['seed']}"
