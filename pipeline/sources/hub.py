"""A model hub: one file of a repository, or a repository of safetensors at a pinned revision."""

import json
import re
from pathlib import Path

import httpx
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pipeline.errors import UserError
from pipeline.sources.places import PlaceError

# Weights as safetensors only, and no code: nothing here can run.
WANTED = [
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
]
ERRORS = (HfHubHTTPError, LocalEntryNotFoundError, EntryNotFoundError, httpx.HTTPError, OSError)


def download_file(repo: str, revision: str, file: str, cache: Path) -> Path:
    """One file of a repository. Raises PlaceError with the reason in a few words."""
    try:
        return Path(hf_hub_download(repo, file, revision=revision, cache_dir=cache / "hub"))
    except ERRORS as error:
        raise PlaceError(_reason(error)) from None


def fetch_repo(repo: str, revision: str, cache: Path, mirror: Path | None = None) -> Path:
    """Folder of a repository's weights, tokenizer and configuration at a 40-digit commit.

    `mirror/owner/name` is used when it is there. Raises UserError in one line.
    """
    if mirror and (mirror / repo / "config.json").is_file():
        return complete(mirror / repo)
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"model.source.revision '{revision}' of {repo} is not a commit of 40 hex digits: pin one, "
            "so that the weights cannot change"
        )
    try:
        folder = snapshot_download(repo, revision=revision, cache_dir=cache / "hub", allow_patterns=WANTED)
    except ERRORS as error:
        raise UserError(
            f"{repo}@{revision[:12]} could not be had: {_reason(error)}. Try: check the network, or put the "
            f"repository's files into {repo}/ of a folder and set fetch.mirror to it"
        ) from None
    return complete(Path(folder))


def complete(folder: Path) -> Path:
    """The folder itself, when every shard that its index names is there. Raises UserError otherwise."""
    index = folder / "model.safetensors.index.json"
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    missing = sorted(name for name in shards if not (folder / name).exists())
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}: fetch the repository again")
    return folder


def _reason(error: Exception) -> str:
    match error:
        case GatedRepoError():
            return "the repository is gated: accept its terms and log in with `hf auth login`"
        case RepositoryNotFoundError():
            return "no such repository (or it is private and you are not logged in)"
        case RevisionNotFoundError():
            return "no such revision"
        case LocalEntryNotFoundError():
            return "no connection"
        case EntryNotFoundError():
            return "no such file"
        case HfHubHTTPError():
            return f"the hub answered {error.response.status_code}"
        case httpx.HTTPError():
            return "no connection"
        case _:
            return str(error).splitlines()[0] if str(error) else type(error).__name__
