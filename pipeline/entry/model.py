"""Open the model that a configuration names."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.checks import AUTO
from pipeline.config.schema import Config
from pipeline.entry.folders import cache_folder, mirror_folder
from pipeline.errors import UserError
from pipeline.progress import note, progress

if TYPE_CHECKING:  # imported where a model is opened: loading the library takes seconds
    from pipeline.model.loading import loading


def open_model(config: Config, dtype: str | None = None) -> "loading.ChatModel":
    """Fetch, verify and load the configured model, in the engine's dtype unless told otherwise.

    Raises UserError for a dtype that is left open: stage `engine` settles it.
    """
    dtype = dtype or config.engine.dtype
    if dtype == AUTO:
        raise UserError("engine.dtype is auto and not settled yet: run `make repro`, or set engine.dtype=float32")
    note("opening the model")
    return load_folder(config, model_folder(config), dtype)


def open_tokenizer(config: Config) -> "loading.PreTrainedTokenizerBase":
    """The tokenizer of the configured model alone."""
    from pipeline.model.loading import loading

    return loading.open_tokenizer(config.model.name, model_folder(config), config.model.chat)


def load_folder(config: Config, folder: Path, dtype: str) -> "loading.ChatModel":
    """Load the configured model, or an export of it, from a folder."""
    from pipeline.model.loading import loading

    model, device, memory = config.model, config.engine.device, memory_of(config)
    settings = (dtype, device, model.chat, memory, config.engine.quantize)
    return loading.load(model.name, folder, model.family, *settings, progress, note)


def memory_of(config: Config) -> "loading.Memory":
    """How much of each device weights may take, and where the rest goes."""
    from pipeline.model.loading import loading

    offload = config.memory.offload_folder or cache_folder(config) / "offload"
    limits = {name.replace("gpu", "cuda:"): gib for name, gib in config.memory.limits.items()}
    return loading.Memory(limits, Path(offload).expanduser())


def model_folder(config: Config) -> Path:
    """The verified local folder of the configured model."""
    from pipeline.model.loading import resolve

    source, cache, mirror = config.model.source, cache_folder(config), mirror_folder(config)
    match source.kind:
        case "gguf":
            places = tuple(source.places)
            return resolve.gguf_folder(source.file, source.sha256, places, cache, mirror, progress, note)
        case "hub":
            return resolve.hub_folder(source.repo, source.revision, cache, mirror)
        case "folder":
            return resolve.local_folder(Path(source.path))
        case "random":
            return resolve.random_folder(source.model_type, source.seed, source.options, cache)
    raise UserError(f"model.source.kind '{source.kind}' is not known")
