"""What memory this machine has free.

accelerate asks torch and psutil, and knows no limit that a container, a batch system or a shell sets.
"""

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

# Control groups, version 2 and 1: mount, how /proc/self/cgroup names it, limit, use, file pages in use.
GROUPS = (
    ("", "::", "memory.max", "memory.current", ("active_file", "inactive_file")),
    (
        "memory",
        ":memory:",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
)


def free_memory(disk: Path) -> dict[str, int]:
    """Bytes free on every GPU ("cuda:0", ...), in main memory ("cpu") and on the disk that would hold folder `disk`."""
    import torch  # here, since a stage without a model asks for main memory alone

    free = {f"cuda:{index}": _free_on_gpu(index) for index in range(torch.cuda.device_count())}
    free["cpu"] = free_main_memory()
    existing = next(folder for folder in (disk, *disk.absolute().parents) if folder.exists())
    free["disk"] = shutil.disk_usage(existing).free
    return free


def _free_on_gpu(index: int) -> int:
    import torch

    # What torch keeps for itself and does not use is free to us.
    kept = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
    return torch.cuda.mem_get_info(index)[0] + kept


def free_main_memory() -> int:
    """Bytes that this process can still take, by the machine and by every limit set on it."""
    return max(0, min([psutil.virtual_memory().available, *free_in_groups(), *free_address_space()]))


def free_address_space() -> Iterator[int]:
    """Bytes left under a limit of the shell (`ulimit -v`) or batch system on what a process maps, if there is one."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def free_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes left under every memory limit that a container or a batch system sets on this process.

    Pages of files count as left: they are given back when memory is short.
    """
    lines = own.read_text("utf-8").splitlines() if own.exists() else []
    for mount, marker, limit, used, file_pages in GROUPS:
        for group in _groups(root / mount, [line.partition(marker)[2] for line in lines if marker in line]):
            if (group / limit).exists() and (group / limit).read_text("utf-8").strip() != "max":
                stat = dict(line.split() for line in (group / "memory.stat").read_text("utf-8").splitlines())
                in_use = int((group / used).read_text("utf-8")) - sum(int(stat[key]) for key in file_pages)
                yield int((group / limit).read_text("utf-8")) - in_use


def _groups(root: Path, paths: list[str]) -> list[Path]:
    """A group limits the groups inside it; in a container's own view its group is the root."""
    innermost = root / paths[0].lstrip("/") if paths else root
    return [group for group in (innermost, *innermost.parents) if group.is_relative_to(root)]
