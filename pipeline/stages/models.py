"""Open the model that a configuration names."""

from pathlib import Path

from pipeline.config.schema import Config, FamilyConfig
from pipeline.errors import UserError
from pipeline.model import loading, resolve
from pipeline.model.sites import Family
from pipeline.stages.entry import cache_folder, mirror_folder


def open_model(config: Config, dtype: str | None = None) -> loading.ChatModel:
    """Fetch, verify and load the configured model, in the engine's dtype unless told otherwise."""
    folder = model_folder(config)
    return loading.load(
        config.model.name,
        folder,
        family(config.model.family),
        dtype or config.engine.dtype,
        config.engine.device,
    )


def model_folder(config: Config) -> Path:
    """The verified local folder of the configured model."""
    source, cache, mirror = config.model.source, cache_folder(config), mirror_folder(config)
    match source.kind:
        case "gguf":
            return resolve.gguf_folder(source.file, source.sha256, tuple(source.places), cache, mirror)
        case "hub":
            return resolve.hub_folder(source.repo, source.revision, cache, mirror)
        case "folder":
            return resolve.local_folder(Path(source.path))
        case "random":
            return resolve.random_folder(source.model_type, source.seed, source.options, cache)
    raise UserError(f"model.source.kind '{source.kind}' is not known")


def family(config: FamilyConfig) -> Family:
    """The family's module paths, without its refusal tokens."""
    return Family(
        config.name,
        config.blocks,
        config.embedding,
        config.attention,
        config.mlp,
        config.attention_out,
        config.mlp_out,
    )
