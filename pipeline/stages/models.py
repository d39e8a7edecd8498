"""Open the model that a configuration names."""

from pathlib import Path

from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.model import loading, resolve
from pipeline.stages.entry import cache_folder, mirror_folder


def open_model(config: Config, dtype: str | None = None) -> loading.ChatModel:
    """Fetch, verify and load the configured model, in the engine's dtype unless told otherwise."""
    return load_folder(config, model_folder(config), dtype or config.engine.dtype)


def load_folder(config: Config, folder: Path, dtype: str) -> loading.ChatModel:
    """Load the configured model, or an export of it, from a folder."""
    model, device, memory = config.model, config.engine.device, memory_of(config)
    return loading.load(model.name, folder, model.family, dtype, device, model.chat, memory, config.engine.quantize)


def memory_of(config: Config) -> loading.Memory:
    """How much of each device weights may take, and where the rest goes."""
    offload = config.memory.offload_folder or cache_folder(config) / "offload"
    limits = {name.replace("gpu", "cuda:"): gib for name, gib in config.memory.limits.items()}
    return loading.Memory(limits, Path(offload).expanduser())


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
