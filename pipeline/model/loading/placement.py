"""Where a model's weights go: one device, several, or the disk; decided before anything is loaded."""

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.utils import compute_module_sizes, get_balanced_memory, infer_auto_device_map
from filelock import FileLock
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipeline.disk.checkpoint import open_checkpoint
from pipeline.disk.files import LOCK, explained
from pipeline.errors import UserError
from pipeline.model.loading.foreign import config_of, library_errors
from pipeline.model.loading.machine import free_memory
from pipeline.model.loading.naming import Naming

GIB = 2**30
# What a device keeps free for activations and caches: a fixed part, and a share of what is free on it.
RESERVE, RESERVE_SHARE = GIB, 0.05
UNBOUNDED = 2**62
ADVICE = "free memory, raise memory.limits, set memory.offload_folder on a larger disk, or use a smaller engine.dtype"


@dataclass(frozen=True)
class Memory:
    """`limits`: GiB of weights per device ("cuda:0", "cpu", "disk"); `offload`: folder for weights on disk."""

    limits: Mapping[str, float] = field(default_factory=dict)
    offload: Path = Path(tempfile.gettempdir())


@dataclass(frozen=True)
class Placement:
    """`modules`: {path: device} of every module; `shares`: bytes of weights per device; in both the disk is last."""

    modules: Mapping[str, str]
    shares: Mapping[str, int]

    @property
    def device_map(self) -> dict[str, int | str]:
        """For `from_pretrained`: GPUs by number, since accelerate takes any of several names for the main one."""
        return {
            path: int(device.removeprefix("cuda:")) if device.startswith("cuda:") else device
            for path, device in self.modules.items()
        }

    @property
    def on_disk(self) -> bool:
        """Weights are read from the disk in every forward pass."""
        return "disk" in self.shares

    def __str__(self) -> str:
        return ", ".join(f"{size / GIB:.2f} GiB on {name}" for name, size in self.shares.items())


def skeleton(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a folder without weights. Raises UserError for a folder that names none."""
    config = config_of(folder)
    with library_errors(f"the model in {folder} does not load"), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)


def plan(model: PreTrainedModel, folder: Path, device: str, memory: Memory, packing: float = 1.0) -> Placement:
    """Where the weights of a skeleton go on this machine as it is now.

    `packing`: bytes of quantised weights per byte of plain ones. Raises UserError for a device that
    is not here, for weights that do not fit, and for quantised ones that do not fit on one device.
    """
    free = free_memory(memory.offload)
    if device == "disk" or device not in free:
        devices = ", ".join(name for name in free if name != "disk")
        raise UserError(f"engine.device is {device} and this machine has {devices}: name one of them, or auto")
    have = room(free, memory.limits)
    there = Placement({}, {**have, "disk": min(have["disk"], free["disk"])})
    placement = place(model, have, device, packing)
    if set(placement.shares) == {"disk"}:
        needed = compute_module_sizes(model)[""] * packing / GIB
        raise UserError(
            f"the weights need {needed:.2f} GiB and no device has room for a single module ({there}): {ADVICE}"
        )
    on_disk = placement.shares.get("disk", 0)
    copied = on_disk if on_disk and _is_converted(model, folder) else 0
    if on_disk > have["disk"] or copied > free["disk"] or (packing != 1 and placement.modules != {"": device}):
        needed = sum(placement.shares.values()) * packing
        remedy = "plain weights may also go to other devices and the disk (engine.quantize)" if packing != 1 else ADVICE
        raise UserError(f"the weights need {needed / GIB:.2f} GiB and there is room for {there}: {remedy}")
    return placement


def room(free: Mapping[str, int], limits: Mapping[str, float]) -> dict[str, int]:
    """Bytes of weights that each device may take: what is free less a reserve, and no more than its limit in GiB."""
    reserved = {name: RESERVE + int(RESERVE_SHARE * size) for name, size in free.items()}
    have = {name: max(0, size - reserved[name]) for name, size in free.items() if name != "disk"}
    # Weights on disk are read from the model's own folder, most of them, so free space is no limit.
    limit = {name: int(gib * GIB) for name, gib in limits.items()}
    return {name: min(size, limit.get(name, size)) for name, size in {**have, "disk": UNBOUNDED}.items()}


def place(model: PreTrainedModel, have: Mapping[str, int], device: str, packing: float = 1.0) -> Placement:
    """The chosen device alone if it has room for all, else GPUs, then the CPU, then the disk; blocks stay whole."""
    sizes = compute_module_sizes(model)  # bytes by the path of each module and tensor; tied ones count once
    if sizes[""] * packing <= have[device]:
        return Placement({"": device}, {device: int(sizes[""])})
    usable: dict[int | str, int | str] = {
        int(name.removeprefix("cuda:")) if name != "cpu" else name: size
        for name, size in have.items()
        if name == "cpu" or (name != "disk" and device != "cpu")
    }
    whole: list[str] = sorted(model._no_split_modules or [])
    balanced = get_balanced_memory(model, usable, no_split_module_classes=whole)
    placed = infer_auto_device_map(model, balanced, no_split_module_classes=whole)
    modules = {path: f"cuda:{on}" if isinstance(on, int) else str(on) for path, on in placed.items()}
    # nnsight takes the device of the first module for its own, and the disk is none.
    modules = dict(sorted(modules.items(), key=lambda item: item[1] == "disk"))
    shares = {
        name: int(sum(sizes.get(path, 0) for path, on in modules.items() if on == name))
        for name in have
        if name in modules.values()
    }
    return Placement(modules, shares)


def _is_converted(model: PreTrainedModel, folder: Path) -> bool:
    """Some tensors change on loading (experts are stacked), so that what goes to disk is written there anew."""
    return Naming(model).converts(open_checkpoint(folder).tensors)


def scratch(memory: Memory) -> Path:
    """A folder of this process's own for weights written to disk, removed when it ends.

    Not shared: a second model's tensors have the same names. Locked for as long as the process lives, which tells the
    folder from one that a killed process left.
    """
    with explained(memory.offload):
        memory.offload.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=memory.offload, prefix="offload-"))
        lock = FileLock(folder / LOCK)
        lock.acquire()
    atexit.register(lock.release)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
