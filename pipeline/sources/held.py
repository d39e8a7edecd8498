"""What the cache folder holds and who needs it: downloads, models made from them, hub files, offloaded weights."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import scan_cache_dir

from pipeline.disk.files import LOCK
from pipeline.disk.space import Held, at_rest, locked

SHA256 = re.compile(r"[0-9a-f]{64}")
MADE = re.compile(r"(?P<of>[0-9a-f]{16,64})-transformers-(?P<version>.+)")
UNFINISHED = re.compile(r"\.[0-9a-f]{16,64}-transformers-.+\.\w+")  # a folder that `publish_folder` fills
UNDER_WAY = "perhaps of a process that runs: written to within the hour, or locked"
NO_RUN = "of no configured run"


@dataclass
class Needed:
    """What the configured runs need, each with the runs that do.

    `downloads` by sha256, `folders` by name, `repositories` by (owner/name, commit).
    """

    downloads: dict[str, list[str]] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    repositories: dict[tuple[str, str], list[str]] = field(default_factory=dict)


def held(cache: Path, needed: Needed, version: str) -> Iterator[Held]:
    """Everything of ours in the cache folder; `version`: of transformers, which models are converted with.

    What has another name than we give, or is a link, is not listed: it is not ours.
    """
    yield from _downloads(cache, needed.downloads)
    for kind in ("converted", "random"):
        yield from _made(cache, kind, needed.folders, version)
    yield from _repositories(cache, needed.repositories)
    for path in _entries(cache / "offload", "offload-*"):
        lock = path / LOCK
        left = not locked(lock) and at_rest(path)
        yield Held(
            cache,
            "offload",
            path.name,
            (path,),
            use="" if left else UNDER_WAY,
            unneeded="of a process that has ended" if left else "",
            lock=lock,
        )


def _entries(folder: Path, pattern: str = "*") -> list[Path]:
    """What is in a folder that is no link itself, links left out."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.glob(pattern) if not path.is_symlink())


def _downloads(cache: Path, needed: Mapping[str, list[str]]) -> Iterator[Held]:
    for folder in _entries(cache / "sha256"):
        paths = tuple(path for path in folder.iterdir() if path.name != LOCK) if SHA256.fullmatch(folder.name) else ()
        if not paths:
            continue
        name = f"{min(path.name for path in paths)} ({folder.name[:12]})"
        use, lock = "; ".join(needed.get(folder.name, [])), folder / LOCK
        if not use and locked(lock):
            use = UNDER_WAY
        yield Held(cache, "download", name, paths, use, "" if use else NO_RUN, lock)


def _made(cache: Path, kind: str, needed: Mapping[str, list[str]], version: str) -> Iterator[Held]:
    what = f"{kind} model"
    for folder in _entries(cache / kind):
        if UNFINISHED.fullmatch(folder.name):
            left = at_rest(folder)
            yield Held(
                cache, what, folder.name, (folder,), "" if left else UNDER_WAY, "left by a process" if left else ""
            )
        elif made := MADE.fullmatch(folder.name):
            use = "; ".join(needed.get(folder.name, []))
            other = made["version"] != version
            why = f"of transformers {made['version']}, here is {version}" if other else NO_RUN
            name = f"{made['of'][:12]}, transformers {made['version']}"
            yield Held(cache, what, name, (folder,), use, "" if use else why)


def _repositories(cache: Path, needed: Mapping[tuple[str, str], list[str]]) -> Iterator[Held]:
    hub = cache / "hub"
    if hub.is_symlink() or not hub.is_dir():
        return
    found = scan_cache_dir(hub)
    for repo in sorted(found.repos, key=lambda repo: repo.repo_id):
        if repo.repo_path.is_symlink():
            continue
        for revision in sorted(repo.revisions, key=lambda revision: revision.commit_hash):
            use = "; ".join(needed.get((repo.repo_id, revision.commit_hash), []))
            plan = found.delete_revisions(revision.commit_hash)  # without what other revisions share
            paths = (*plan.blobs, *plan.refs, *plan.repos, *plan.snapshots)
            if not use and not all(map(at_rest, paths)):
                use = UNDER_WAY
            name = f"{repo.repo_id}@{revision.commit_hash[:12]}"
            yield Held(cache, "hub files", name, paths, use, "" if use else NO_RUN)
    for path in sorted(hub.glob("models--*/blobs/*.incomplete")):
        left = at_rest(path)
        yield Held(
            cache, "hub files", path.name[:12], (path,), "" if left else UNDER_WAY, "left by a process" if left else ""
        )
