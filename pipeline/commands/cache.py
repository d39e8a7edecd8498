"""What is on the disk of models, downloads and results, how large it is, and what nobody needs any more.

Lists the user's cache folder (downloads, converted and random models, hub files, weights that went to disk), DVC's
cache of this project, and unfinished work under outputs/partial, each with its size and the runs that need it. A file
with several names is counted once.

With --prune, what no run of params.yaml and dvc.lock needs is removed, after a question or with --yes: models converted
by another version of transformers, downloads of no configured run (they come again when they are asked for), what
killed processes left, objects that neither dvc.lock nor the workspace has (those of results that were replaced), and
second copies of what DVC's cache has. What another process holds or wrote to within the hour stays, and so does what is
not ours; links are not followed.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import psutil
from rich.console import Console

from pipeline.disk import space
from pipeline.disk.space import Held, Ruler
from pipeline.display import plain
from pipeline.entry.arguments import Parser
from pipeline.entry.folders import cache_folder
from pipeline.entry.needed import configurations, finished, needed
from pipeline.entry.program import guarded
from pipeline.graph import objects
from pipeline.graph.runs import every_run
from pipeline.printed import Shown, words
from pipeline.progress import note
from pipeline.sources import held as sources

WIDTH = 150
DVC, STAGES = "dvc", "pipeline"  # modules whose processes write results


def listed(root: Path) -> Iterator[Held]:
    """All that is held. Raises UserError for a run that conf/ does not make: what it needs is not known then."""
    runs = every_run(root)
    configs = configurations(runs)
    transformers = version("transformers")
    wanted = needed(configs, transformers)
    for folder in sorted({cache_folder(config).resolve() for config in configs.values()}):
        yield from sources.held(folder, wanted, transformers)
    cache, linked = _dvc_cache(root)
    yield from objects.held(root, cache)
    yield from objects.second_copies(root, cache) if linked else ()
    yield from objects.unfinished(root, finished(runs, root))


def _dvc_cache(root: Path) -> tuple[Path, bool]:
    """DVC's cache, and whether the workspace is to be linked to it."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        local = repo.cache.local
        return Path(local.path).parents[1].resolve(), local.cache_types[0] == "hardlink"


def running(root: Path) -> bool:
    """Whether another process makes results in this folder, or in one of its sweeps' jobs."""
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    for process in psutil.process_iter(["pid", "cwd", "cmdline"]):
        row = process.info
        here = row["cwd"] and (Path(row["cwd"]) == root or root in Path(row["cwd"]).parents)
        if here and row["pid"] not in own and _makes_results(row["cmdline"] or []):
            return True
    return False


def _makes_results(command: Sequence[str]) -> bool:
    modules = [after for word, after in pairwise(command) if word == "-m"]
    return any(name.partition(".")[0] in (DVC, STAGES) for name in modules) or DVC in map(os.path.basename, command[:2])


def shown(rows: Sequence[tuple[Held, int]], title: str, last: str) -> Shown:
    """A table of what is held with its size; `last`: what the column before says."""
    table = Shown(title=words(title, style="table.title"), title_justify="left")
    for name in ("what", "name", last):
        table.add_column(name, overflow="fold")
    table.add_column("size", justify="right")
    for held, size in rows:
        table.add_row(held.what, held.name, held.unneeded or held.use, readable(size))
    table.add_section()
    table.add_row("total", "", "", readable(sum(size for _, size in rows)))
    return table


def readable(n_bytes: float) -> str:
    """Bytes in decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"


def prune(rows: Sequence[tuple[Held, int]], root: Path, agreed: bool) -> None:
    """Say what nobody needs and remove it once agreed to."""
    going = [(held, size) for held, size in rows if held.unneeded]
    if running(root):
        note("another process makes results here: DVC's cache and outputs/partial stay as they are")
        going = [(held, size) for held, size in going if held.what not in objects.OF_PROJECT]
    if not going:
        print("nothing to remove")
        return
    Console(width=WIDTH).print(shown(going, "to be removed", "why"))
    if not agreed and not (sys.stdin.isatty() and input("remove these? [y/N] ").strip().lower() in ("y", "yes")):
        print("nothing was removed: say --yes")
        return
    freed = 0
    for held, size in going:
        if space.remove(held):
            freed += size
        else:
            note(plain(f"{held.name} stays: another process holds it"))
    print(f"removed, {readable(freed)}")


def main() -> None:
    """Command line."""
    parser = Parser(__doc__)
    parser.add_argument("--prune", action="store_true", help="say what nobody needs, and remove it after a question")
    parser.add_argument("--yes", action="store_true", help="with --prune: remove it without a question")
    arguments = parser.parse_args()

    def run() -> None:
        root, ruler = Path().resolve(), Ruler()
        rows = [(held, ruler.size(held.paths)) for held in listed(root)]
        if arguments.prune:
            prune(rows, root, arguments.yes)
        else:
            Console(width=WIDTH).print(shown(rows, "on the disk", "for"))

    guarded(run)
