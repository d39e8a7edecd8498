"""Artefacts addressed by sha256, with several places to have them from."""

from pipeline.sources.fetch import Artefact, fetch, local_path
from pipeline.sources.hub import fetch_repo

__all__ = ["Artefact", "fetch", "fetch_repo", "local_path"]
