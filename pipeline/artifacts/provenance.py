"""What a result depends on, with nothing that changes from run to run."""

from importlib.metadata import version
from typing import Any

from pipeline.artifacts import files
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config

PACKAGES = ("torch", "transformers", "nnsight", "safetensors", "scipy", "statsmodels")


def provenance(config: Config, layout: Layout, model: str) -> dict[str, Any]:
    """Model bytes, configuration and data hashes, dtype and package versions."""
    audit = files.read_json(layout.audit)
    return {
        "model": model,
        "config": files.file_hash(layout.config),
        "data": config.data.name,
        "data_revision": files.content_hash(audit["hashes"])[:16],
        "dtype": config.engine.dtype,
        "seed": config.seed,
        "packages": {name: version(name) for name in PACKAGES},
    }


def stamp(config: Config, layout: Layout, model: str) -> str:
    """One line for figures: which model and which data."""
    facts = provenance(config, layout, model)
    data = f"data {facts['data']} {facts['data_revision']}"
    return f"model {model[:28]}  |  {data}  |  {facts['dtype']}, seed {facts['seed']}"
