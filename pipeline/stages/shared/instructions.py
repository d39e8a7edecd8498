"""Where files of instructions, questions and suffixes are: shared by the stages that read them."""

from collections.abc import Callable
from pathlib import Path

from pipeline.config.data import FileSpec
from pipeline.config.schema import Config
from pipeline.entry.folders import cache_folder, mirror_folder
from pipeline.sources import Artefact, fetch, local_path


def opener(config: Config) -> Callable[[FileSpec], Path]:
    """Local path of a file of instructions, fetched and checked where it is not local."""

    def open_file(spec: FileSpec) -> Path:
        return local_path(spec.file, spec.sha256, spec.places, cache_folder(config), mirror_folder(config))

    return open_file


def fetched(config: Config, artefact: Artefact) -> Path:
    """Local path of a file, fetched into the cache folder and checked."""
    return fetch(artefact, cache_folder(config), mirror_folder(config))
