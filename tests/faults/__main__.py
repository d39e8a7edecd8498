"""Every fault at every stage of the tiny model's run: python -m tests.faults [--sample N] [--stage NAME] [--fault NAME]

Prints what happened and whether the results are equal to the byte afterwards, when the stage has run once more
undisturbed. Exit status 1 when anything was lost, silently wrong, said in more than one line, or not run.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from tests.conftest import ROOT
from tests.faults import __doc__ as how
from tests.faults.kinds import FAULTS, Wrong
from tests.faults.world import World, finished_run

APART = ["unshare", "-rm"]  # a user and a mount namespace of our own
INSIDE = "FAULTS_INSIDE"
SIZE = "size=256m"


@dataclass(frozen=True)
class Cell:
    """One stage under one fault. `wrong`: empty where all is well."""

    stage: str
    fault: str
    happened: str
    wrong: str


def cell(finished: Path, stage: str, fault: str, seed: int) -> Cell:
    """The stage under the fault, and once more undisturbed."""
    world = _world(finished)
    world.clear(stage)
    happened, wrong = "", ""
    try:
        happened = FAULTS[fault](world, stage, random.Random(f"{seed} {stage} {fault}"))
    except Wrong as error:
        wrong = str(error)
    if world.differing():
        world.clear(stage)
        again = world.run(stage)
        if again.status:
            wrong = wrong or f"does not run again: {again}"
        elif different := world.differing():
            wrong = wrong or f"{len(different)} results differ afterwards, {different[0]}"
    if wrong or world.differing():
        world.reset()
    return Cell(stage, fault, happened, wrong)


WORLDS: dict[Path, World] = {}  # of this process


def _world(finished: Path) -> World:
    if finished not in WORLDS:
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", SIZE, "faults", str(folder)], check=True)
        WORLDS[finished] = World(finished, folder)
    return WORLDS[finished]


def chosen(stages: Sequence[str], faults: Sequence[str], sample: int | None, seed: int) -> list[tuple[str, str]]:
    """Cells to run; of a sample, each fault and each stage in turn as far as it goes."""
    cells = [(stage, fault) for stage in stages for fault in faults]
    if sample is None or sample >= len(cells):
        return cells
    draw = random.Random(seed)
    rows = {fault: draw.sample(list(stages), len(stages)) for fault in faults}
    turns = [(row[turn], fault) for turn in range(len(stages)) for fault, row in rows.items()]
    return turns[:sample]


def run(cells: Sequence[tuple[str, str]], seed: int, workers: int) -> list[Cell]:
    """All cells, in the order given."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        console.print("an undisturbed run first, about a minute")
        finished = finished_run(Path(folder) / "finished")
        found, begin = {}, time.monotonic()
        with ProcessPoolExecutor(workers) as pool:
            waiting = {pool.submit(cell, finished, stage, fault, seed): (stage, fault) for stage, fault in cells}
            for n, done in enumerate(as_completed(waiting), start=1):
                found[waiting[done]] = result = done.result()
                left = (time.monotonic() - begin) / n * (len(cells) - n)
                state = "WRONG" if result.wrong else "equal"
                console.print(f"{n}/{len(cells)}, {left / 60:.0f} min left: {result.stage}, {result.fault}: {state}")
    return [found[key] for key in cells]


def table(cells: Sequence[Cell]) -> Table:
    """A row per cell."""
    made = Table("stage", "fault", "what happened", "equal afterwards", title="faults", title_justify="left")
    for row in cells:
        made.add_row(row.stage, row.fault, row.wrong or row.happened, "WRONG" if row.wrong else "yes")
    return made


def main() -> int:
    """Command line."""
    stages = [name for name in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"] if name != "code"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many cells, drawn by the seed (default: all)")
    parser.add_argument("--stage", action="append", choices=stages, help="only this stage; may come again")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="only this fault; may come again")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="default: drawn")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        if not shutil.which(APART[0]) or subprocess.run([*APART, "true"], capture_output=True).returncode:
            print(f"error: `{' '.join(APART)}` is not allowed here: full disk and read-only cannot be made")
            return 1
        return subprocess.run(
            [*APART, sys.executable, "-m", "tests.faults", *sys.argv[1:]], env={**os.environ, INSIDE: "1"}
        ).returncode
    print(how)
    print(f"seed {arguments.seed}")
    cells = chosen(arguments.stage or stages, arguments.fault or list(FAULTS), arguments.sample, arguments.seed)
    found = run(cells, arguments.seed, arguments.workers)
    Console(width=200).print(table(found))
    wrong = [row for row in found if row.wrong]
    print(f"{len(found)} cells, {len(wrong)} wrong")
    return 1 if wrong or len(found) < len(cells) else 0


if __name__ == "__main__":
    sys.exit(main())
