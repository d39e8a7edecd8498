"""Do dvc.lock, the configuration, the code and the committed results of every run belong together?

Needs no data: asks `dvc repro --dry --allow-missing` of each run of dvc.lock, active or not, which stages it would
run.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts.layout import CODE, KEPT_BENCH, Layout
from pipeline.artifacts.seal import broken, sealed
from pipeline.config.params import Run
from pipeline.disk.files import read_object
from pipeline.errors import UserError
from pipeline.graph import closure, repeated
from pipeline.graph.declared import LOCK, read_graph, read_lock
from pipeline.graph.runs import every_run
from pipeline.results.repeated import FOLDER

FOLDERS = {  # of outputs/
    *("bench", "eval", "families", "figures", "golden", "models", "partial", "suffixes"),
    *(FOLDER.name, KEPT_BENCH.name),
}
DRY = "--dry-run-of"  # the call of this program in which DVC is asked about one run


def stale_stages(run: Run, root: Path = Path()) -> list[str]:
    """Stages that `dvc repro` would run for a run. Raises UserError when DVC itself fails."""
    command = [sys.executable, "-m", "pipeline", "fresh", DRY, run.model, run.label, *run.overrides]
    result = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", errors="replace")
    # What a stage would read may be left elsewhere: DVC gives up at the first stage that it would run then.
    given_up = re.findall(r"failed to reproduce '([^']+)'", result.stderr)
    if result.returncode != 0 and not given_up:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(f"dvc: {lines[-1] if lines else result.stderr.strip()}")
    return list(dict.fromkeys([*re.findall(r"Running stage '([^']+)'", result.stdout), *given_up]))


def stale_code(runs: Sequence[Run], root: Path = Path()) -> dict[str, list[str]]:
    """Stages whose code, or a library that it uses, is another than dvc.lock has, and what changed of it.

    The code is read here and not asked of DVC, which sees no file that .dvcignore hides.
    """
    rows, before = closure.reached(root), read_object(root / CODE)
    locked, changed = read_lock(root / LOCK), {}
    for stage, digest in closure.summary(rows)["stages"].items():
        names = [name for name in locked if name == stage or name.startswith(f"{stage}@")]
        wanted = {stage, *(f"{stage}@{run.model}-{run.label}" for run in runs)}
        for name in names:
            recorded = locked[name].params.get(str(CODE), {}).get(f"stages.{stage}")
            if name in wanted and recorded != digest:
                items = [(kind, *item) for kind in ("files", "libraries") for item in rows[stage][kind].items()]
                changed[name] = [key for kind, key, value in items if before.get(kind, {}).get(key) != value]
    return changed


def broken_graph(root: Path = Path()) -> list[str]:
    """Stages that dvc.yaml lacks or never runs, and what the stages need that .dvcignore hides."""
    from dvc.repo import Repo

    graph = read_graph(root)
    ran = {recorded.stage for recorded in read_lock(root / LOCK).values()}
    problems = [f"dvc.yaml has no stage '{name}', and dvc.lock has results of it" for name in ran - graph.keys()]
    problems += [f"stage '{name}' of dvc.yaml is frozen" for name, stage in graph.items() if stage.frozen]
    deps = {dep for stage in graph.values() for dep in stage.deps if not dep.startswith("outputs/")}
    files = [path for dep in deps for path in (root / dep, *(root / dep).rglob("*")) if path.is_file()]
    with Repo(str(root)) as repo:
        hidden = [path for path in files if repo.dvcignore.is_ignored_file(str(path.resolve()))]
    return sorted(problems) + [
        f"{path} is hidden by .dvcignore from the stages that need it" for path in sorted(hidden)
    ]


def unwritten(runs: Sequence[Run], root: Path = Path()) -> list[Path]:
    """Files beside committed results that no stage writes."""
    outs = {root / path for run in runs for path in committed(run, root)}
    tops = [root / "outputs" / name for name in ("eval", "figures", "golden", FOLDER.name)]
    files = [path for top in tops for path in top.rglob("*") if path.is_file() and path.name != ".gitignore"]
    seals = _seals(runs, root)
    known = {*seals, *(path for seal in seals for path in sealed(seal))}
    covered = {path.parent for path in known}
    outs |= {path for path in known if root / FOLDER in path.parents}
    return sorted(
        path for path in files if not outs & {path, *path.parents} or (path not in known and path.parent in covered)
    )


def committed(run: Run, root: Path = Path()) -> list[str]:
    """Paths of a run's results that git has, files and folders."""
    stages = read_graph(root, run.model, run.label).values()
    return [out.path for stage in stages for out in stage.outs if out.committed]


def edited_results(runs: Sequence[Run], root: Path = Path()) -> list[Path]:
    """Committed results that are not those that were sealed: edited by hand, perhaps together with dvc.lock."""
    return sorted(path for seal in _seals(runs, root) for path in broken(seal))


def _seals(runs: Sequence[Run], root: Path) -> list[Path]:
    seals = [Layout(run.model, run.label, root).seal for run in runs] + [root / "outputs" / "golden" / "seal.json"]
    seals += sorted((root / FOLDER).glob("*/seal.json"))
    return [seal for seal in seals if seal.exists()]


def missing_results(run: Run, root: Path = Path()) -> list[Path]:
    """Committed results of a run that are not there: DVC, asked without data, takes them for data left elsewhere."""
    return sorted(root / path for path in committed(run, root) if not (root / path).exists())


def stray_folders(runs: Sequence[Run], root: Path = Path()) -> list[Path]:
    """Folders of committed results that belong to no run, and those that nothing here writes."""
    wanted = {(run.model, run.label) for run in runs}
    tops = [root / "outputs" / name for name in ("eval", "figures", "models")]
    folders = [folder for top in tops for folder in top.glob("*/*/")]
    alone = [folder for top in tops for folder in top.glob("*/") if not any(folder.glob("*/"))]
    unknown = [folder for folder in (root / "outputs").glob("*/") if folder.name not in FOLDERS]
    return sorted([folder for folder in folders if (folder.parent.name, folder.name) not in wanted] + alone + unknown)


def problems() -> list[str]:
    """All that does not belong together, a line each."""
    runs = every_run()
    code = stale_code(runs)
    stale = {stage: run.label for run in runs for stage in stale_stages(run) if stage != "code"}
    lines = [f"{stage} is out of date, by {', '.join(what) or 'its code'}" for stage, what in code.items()]
    lines += [
        f"{stage} is out of date: run `make repro PROFILE={label}`"
        for stage, label in stale.items()
        if stage not in code
    ]
    lines += [*repeated.stale(), *broken_graph()]
    lines += [f"{path} is missing: check it out again" for run in runs for path in missing_results(run)]
    lines += [f"{path} is not what was sealed: check it out again, or make it again" for path in edited_results(runs)]
    stray = stray_folders(runs)
    lines += [f"{folder} is of no run in dvc.lock or params.yaml: delete it" for folder in stray]
    lines += [
        f"{path} is written by no stage: delete it"
        for path in unwritten(runs)
        if not any(folder in path.parents for folder in stray)
    ]
    return list(dict.fromkeys(lines))
