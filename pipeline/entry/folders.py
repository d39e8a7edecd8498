"""Folders outside of the project that stages read from."""

from pathlib import Path

import platformdirs

from pipeline.config.schema import Config


def cache_folder(config: Config) -> Path:
    """Where downloads and converted models are kept between runs and clones."""
    return Path(config.fetch.cache or platformdirs.user_cache_dir("refusal-direction")).expanduser()


def mirror_folder(config: Config) -> Path | None:
    """A local folder tried before any network place."""
    return Path(config.fetch.mirror).expanduser() if config.fetch.mirror else None
