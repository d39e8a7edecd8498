"""The faults. Each runs a stage of a world under it, mends it, runs the stage again, and says what happened."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.world import PAGE, Ended, World, address_space, ended

GIB = 2**30
SPACES = (1, 2, 4.25, 4.5, 5)  # GiB; the libraries of a stage that opens a model need about three
HOW: dict[int | None, str] = {-signal.SIGKILL: "killed", 0: "ended"}
TRIES = 5  # to kill what ends sooner than it did before
SAID = 150  # characters of an error that the table shows

Fault = Callable[[World, str, random.Random], str]


class Wrong(Exception):
    """Something was lost, silently wrong, or said in more than a line."""


def kill(world: World, stage: str, draw: random.Random) -> str:
    """`kill -9` at a moment drawn between the start and the end."""
    after, _ = _killed(world, stage, 1, draw.uniform(0.3, 0.95) * world.seconds(stage))
    return f"killed after {after:.1f} s"


def two_at_once(world: World, stage: str, draw: random.Random) -> str:
    """Two processes on the same stage, both killed at a moment drawn."""
    after, found = _killed(world, stage, 2, draw.uniform(0.3, 1.2) * world.seconds(stage))
    return f"after {after:.1f} s: {' and '.join(HOW.get(each.status, each.line) for each in found)}"


def _killed(world: World, stage: str, n: int, after: float) -> tuple[float, list[Ended]]:
    """So many processes on the stage, killed after some seconds, or sooner where all of them had ended by then."""
    for _ in range(TRIES):
        processes = [world.start(stage) for _ in range(n)]
        time.sleep(after)
        for process in processes:
            process.send_signal(signal.SIGKILL)
        found = [ended(process) for process in processes]
        # Nothing else disturbs them: one alone has nothing to fail at, and of two one may refuse to be the second.
        if any(each.status not in HOW and (n == 1 or not each.line) for each in found):
            raise Wrong(" and ".join(map(str, found)))
        if any(each.status == -signal.SIGKILL for each in found):
            return after, found
        _went_on(world, found[0])
        world.clear(stage)
        after *= 0.7
    raise Wrong(f"not run: it ended before it was killed, {TRIES} times")


def full_disk(world: World, stage: str, draw: random.Random) -> str:
    """The workspace's disk has less room left than the stage's outs need, drawn."""
    filler, left = world.folder / "filler", draw.randrange(0, world.size(stage), PAGE)
    _fill(filler, left)
    try:
        return f"{left // 1024} KiB left: {_refused(world.run(stage))}"
    finally:
        filler.unlink()


def read_only(world: World, stage: str, _: random.Random) -> str:
    """The folders of the stage's outs can be read and not written, by root either."""
    folders = sorted({str(out.parent) for out in world.outs(stage)})
    try:
        for folder in folders:
            subprocess.run(["mount", "--bind", folder, folder], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        return _refused(world.run(stage))
    finally:
        subprocess.run(["umount", *reversed(folders)], check=True)


def damaged_input(world: World, stage: str, draw: random.Random) -> str:
    """A file that the stage reads is cut short."""
    files = world.inputs(stage)
    if not files:
        return "reads no file"
    path = draw.choice(files)
    whole = path.read_bytes()
    path.write_bytes(whole[: draw.randrange(len(whole))])
    found = world.run(stage)
    path.write_bytes(whole)
    name = path.relative_to(world.folder)
    if found.status == 0 and not world.differing():
        return f"{name} cut short: nothing of it is read"
    return f"{name} cut short: {_refused(found)}"


def low_memory(world: World, stage: str, draw: random.Random) -> str:
    """An address space that may be too small to start, or to end."""
    size = draw.choice(SPACES)
    found = world.run(stage, before=address_space(int(size * GIB)))
    return f"{size} GiB of address space: {_refused(found) if found.status else _went_on(world, found)}"


def locale(world: World, stage: str, _: random.Random) -> str:
    """An ASCII locale that nothing coerces to UTF-8, another time zone, no terminal, and files for one user alone."""
    surroundings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Kathmandu"}
    return _went_on(world, world.run(stage, surroundings={**surroundings, "LANG": "C"}, before=lambda: _umask(0o077)))


def no_home(world: World, stage: str, _: random.Random) -> str:
    """No HOME, nor what stands for it."""
    unset = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "USER", "LOGNAME"))
    return _went_on(world, world.run(stage, surroundings=unset))


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "two at once": two_at_once,
    "full disk": full_disk,
    "read-only": read_only,
    "damaged input": damaged_input,
    "low memory": low_memory,
    "locale": locale,
    "no HOME": no_home,
}


def _umask(mask: int) -> None:
    os.umask(mask)


def _refused(found: Ended) -> str:
    if not found.line:
        raise Wrong(str(found))
    return found.line.removeprefix("error: ")[:SAID]


def _went_on(world: World, found: Ended) -> str:
    """A stage that ends well has to have the very bytes now: running it again would hide that it had others."""
    if found.status:
        raise Wrong(str(found))
    if different := world.differing():
        raise Wrong(f"ended well with {len(different)} other results, {different[0]}")
    return "as ever"


def _fill(filler: Path, left: int) -> None:
    with filler.open("wb") as out:
        os.posix_fallocate(out.fileno(), 0, shutil.disk_usage(filler).free - left)
