"""Where a model's weights go: one device, several, or the disk; decided before anything is loaded."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from pipeline.artifacts.checkpoint import open_checkpoint
from pipeline.errors import UserError

GIB = 2**30
# What a device keeps free for activations and caches: a fixed part, and a share of the weights.
RESERVE, RESERVE_SHARE = GIB, 0.1
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True)
class Placement:
    """`device` alone when it holds the model, else the bytes of weights that each device takes, the disk last."""

    device: str
    shares: Mapping[str, int]

    @property
    def spread(self) -> bool:
        """The weights are not on `device` alone."""
        return set(self.shares) != {self.device}

    def __str__(self) -> str:
        return ", ".join(f"{size / GIB:.2f} GiB on {name}" for name, size in self.shares.items())


def place(needed: int, free: Mapping[str, int], device: str, limits: Mapping[str, float]) -> Placement:
    """Decide where `needed` bytes of weights go, given what is `free` per device ("cuda:0", …, "cpu", "disk").

    The chosen device alone if it holds them beside its reserve, else GPUs, then the CPU, then the
    disk. `limits`: GiB of weights that a device may take, with the same names. Raises UserError when even the disk
    lacks the space.
    """
    room = {name: max(0, int(size - RESERVE - RESERVE_SHARE * needed)) for name, size in free.items() if name != "disk"}
    room["disk"] = free["disk"]
    room |= {name: min(room.get(name, 0), int(gib * GIB)) for name, gib in limits.items()}
    if needed <= room[device]:
        return Placement(device, {device: needed})
    shares, left = {}, needed
    for name in [name for name in room if name.startswith("cuda") and device != "cpu"] + ["cpu", "disk"]:
        taken = min(left, room[name])
        if taken:
            shares[name] = taken
            left -= taken
    if left:
        there = ", ".join(f"{size / GIB:.2f} GiB on {name}" for name, size in room.items())
        raise UserError(
            f"the weights need {needed / GIB:.2f} GiB and there is room for {there}: free memory or disk, "
            "raise memory.limits, or use a smaller engine.dtype"
        )
    return Placement(device, shares)


def weight_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Bytes of the weights once loaded as `dtype`, from the headers of their files."""
    stored = open_checkpoint(folder).tensors.values()
    sizes = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "U8": 0.5}  # U8: two packed 4-bit numbers
    return sum(int(row.n_bytes / sizes.get(row.dtype, 1) * dtype.itemsize) for row in stored)


def free_memory(offload: Path) -> dict[str, int]:
    """Bytes free on every GPU, in main memory (within the container's limit) and on the disk of `offload`."""
    free = {f"cuda:{index}": torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())}
    free["cpu"] = min(psutil.virtual_memory().available, _container())
    existing = next(folder for folder in (offload, *offload.parents) if folder.exists())
    free["disk"] = shutil.disk_usage(existing).free
    return free


def arguments(placement: Placement, limits: Mapping[str, float], offload: Path) -> dict[str, Any]:
    """What `from_pretrained` is told; nothing for a single device."""
    if not placement.spread:
        return {}
    memory = {name.removeprefix("cuda:"): share for name, share in placement.shares.items() if name != "disk"}
    unused = {name.removeprefix("cuda:"): 0 for name in limits if name not in placement.shares and name != "disk"}
    keyed = {int(name) if name.isdigit() else name: size for name, size in {**unused, **memory}.items()}
    return {"device_map": "auto", "max_memory": keyed, "offload_folder": str(offload)}


def _container() -> int:
    """Bytes left of a cgroup's limit, or more than any machine has."""
    try:
        return int(CGROUP_LIMIT.read_text()) - int(CGROUP_USED.read_text())
    except (OSError, ValueError):
        return 2**62
