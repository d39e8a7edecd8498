"""What a result depends on, with nothing that changes from run to run."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.artifacts.kinds import Audit, FilterSummary
from pipeline.artifacts.layout import Layout
from pipeline.config.opening import SourceConfig
from pipeline.config.reading import read_settings
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.shape import read_record
from pipeline.display import plain
from pipeline.errors import UserError

LOADING = Path(__file__).parents[1] / "model" / "loading"
RANDOM_MODEL, GGUF = LOADING / "random_model.py", LOADING / "gguf.py"  # make models that are kept
PACKAGES = (
    "concept-erasure",
    "nnsight",
    "numpy",
    "safetensors",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "tokenizers",
    "torch",
    "transformers",
)


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


def converted_recipe(sha256: str) -> str:
    """Hash of what makes a model from a GGUF file, the code that makes it included."""
    return files.content_hash([files.file_hash(GGUF), sha256])[:16]


def _weights_hash(folder: Path) -> str:
    weights = {file.name: files.file_hash(file) for file in folder.glob("*.safetensors")}
    if not weights:
        raise UserError(f"{folder} holds no safetensors: set model.source.path to a model folder")
    return files.content_hash(weights)


def provenance(config: Config, layout: Layout, model: str, keys: Sequence[str]) -> dict[str, Any]:
    """What a result was made from: bytes of model, tokenizer and data, configuration, dtype, device, packages.

    `keys`: the parts of the configuration that have a say in it; their hash changes with them alone.
    """
    audit = read_record(layout.audit, Audit)
    measured = read_record(layout.filter_summary, FilterSummary)["measured"]
    return {
        "model": model,
        "tokenizer": measured["tokenizer"],
        "chat_template": measured["chat_template"],
        "config": files.content_hash(_composed(layout, keys))[:16],
        "data": config.data.name,
        "data_revision": files.content_hash(audit["hashes"])[:16],
        "dtype": config.engine.dtype,
        "device": measured["device"],
        "quantize": config.engine.quantize,
        "seed": config.seed,
        "packages": {name: version(name) for name in PACKAGES},
    }


def _composed(layout: Layout, keys: Sequence[str]) -> dict[str, Any]:
    """Values as `compose` wrote them, which know nothing of the machine: a dtype left open is still open there."""
    values: Any = OmegaConf.to_container(read_settings(layout.config))
    values.get("export", {}).pop("keep", None)  # which files stay: no result depends on it
    return {key: values[key] for key in keys}


def stamp(facts: Mapping[str, Any]) -> str:
    """Two printable lines for figures, from a result's provenance."""
    packages = ", ".join(f"{name} {facts['packages'][name]}" for name in ("torch", "transformers"))
    lines = (
        f"model {facts['model'][:28]}  |  tokenizer {facts['tokenizer'][:12]}"
        f"  |  template {facts['chat_template'][:12]}  |  data {facts['data']} {facts['data_revision']}",
        f"config {facts['config']}  |  {facts['dtype']} on {facts['device']}, seed {facts['seed']}  |  {packages}",
    )
    return "\n".join(map(plain, lines))
