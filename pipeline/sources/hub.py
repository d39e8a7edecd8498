"""A model hub: one file of a repository, or a repository of safetensors at a commit."""

import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_session, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)

from pipeline.disk.files import read_object
from pipeline.errors import UserError
from pipeline.sources.cache import WORK, writing_to
from pipeline.sources.places import REPO, HubFile, PlaceError, pinned

WANTED = [
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "*.model",
]
# Nothing that can run when it is loaded, and no second copy of the weights (folders, consolidated files).
UNWANTED = ["*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.gguf", "consolidated*", "*/*"]
REACH_SECONDS = 10
# Not OSError as such: a full disk is no failure of the hub.
ERRORS = (
    httpx2.HTTPError,
    EntryNotFoundError,
    FileMetadataError,
    HFValidationError,
    OfflineModeIsEnabled,
    XetDownloadError,
)


def download_file(place: HubFile, partial: Path) -> None:
    """Fill `partial` with one file of a repository. Raises PlaceError with the reason in a few words."""
    # A folder of its own rather than the hub's cache, which would keep a second copy.
    folder = partial.with_name(WORK) / "hub"
    with _explained():
        _reach()
        path = hf_hub_download(place.repo, place.file, revision=place.revision, local_dir=folder)
    shutil.move(path, partial)


def fetch_repo(repo: str, revision: str, cache: Path, mirror: Path | None = None) -> Path:
    """Folder of a repository's safetensors, configuration and tokenizer at a commit of 40 hex digits.

    `mirror/owner/name` is used when it is there; its revision is the mirror's to vouch for.
    Raises UserError in one line: not pinned, not to be had, shards missing, or a cache that cannot be written.
    """
    if not re.fullmatch(REPO, repo):
        raise UserError(f"'{repo}' is not a repository of a model hub: use owner/name")
    pinned(revision, repo)
    if mirror and (mirror / repo).is_dir():
        return complete(mirror / repo, "copy the repository into the mirror again")
    try:
        with writing_to(cache), _explained():
            folder = _snapshot(repo, revision, cache / "hub")
    except PlaceError as error:
        raise UserError(
            f"{repo}@{revision[:12]} could not be fetched: {error}. Try: check the network, or put the "
            f"repository's files into {repo}/ of a folder and set fetch.mirror to it"
        ) from None
    return complete(folder, f"choose a revision of {repo} with safetensors, or delete the folder and try again")


def reach() -> None:
    """Raises PlaceError, at once, when there is no way to the hub."""
    with _explained():
        _reach()


def _snapshot(repo: str, revision: str, hub_cache: Path) -> Path:
    def snapshot(local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                cache_dir=hub_cache,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                local_files_only=local_files_only,
            )
        )

    try:
        return snapshot(local_files_only=True)
    except LocalEntryNotFoundError:
        _reach()
        return snapshot(local_files_only=False)


def _reach() -> None:
    """Raise at once when there is no way to the hub: its client would try for half a minute, with many warnings."""
    get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)


def complete(folder: Path, remedy: str) -> Path:
    """The folder itself, when it has a configuration, a model's or an adapter's, and all the weights.

    Raises UserError otherwise.
    """
    if (folder / "adapter_config.json").exists():
        return _holding(folder, {"adapter_config.json", "adapter_model.safetensors"}, remedy)
    index = folder / "model.safetensors.index.json"
    try:
        shards = read_object(index)["weight_map"].values() if index.exists() else ["model.safetensors"]
    except (UserError, KeyError, AttributeError):
        raise UserError(f"{index} is not an index of weights: {remedy}") from None
    if not all(isinstance(name, str) and name == Path(name).name for name in shards):
        raise UserError(f"{index} names a file that is not in its folder: {remedy}")
    return _holding(folder, {"config.json", *shards}, remedy)


def _holding(folder: Path, names: Collection[str], remedy: str) -> Path:
    if missing := [name for name in sorted(names) if not (folder / name).is_file()]:
        raise UserError(f"{folder} lacks {', '.join(missing)}: {remedy}")
    return folder


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        raise PlaceError(_reason(error)) from None


def _reason(error: BaseException | None) -> str:
    match error:
        case GatedRepoError():
            return "the repository is gated: accept its terms and log in with `hf auth login`"
        case RepositoryNotFoundError():
            return "no such repository (or it is private and you are not logged in)"
        case RevisionNotFoundError():
            return "no such revision"
        case LocalEntryNotFoundError() if error.__cause__:
            return _reason(error.__cause__)
        case LocalEntryNotFoundError() | httpx2.TransportError():
            return "no connection"
        case EntryNotFoundError():
            return "no such file"
        case HfHubHTTPError():
            return f"the hub answered {error.response.status_code}"
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set"
        case _:
            return (str(error).splitlines() or [type(error).__name__])[0]
