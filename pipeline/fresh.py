"""Do dvc.lock, the configuration, the code and the committed results of every run belong together?

Needs no data: asks `dvc repro --dry --allow-missing` of each run of dvc.lock, active or not, which stages it would
run. Exit 1 names them.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.arguments import Parser
from pipeline.artifacts.files import read_text
from pipeline.artifacts.plain import parse_yaml
from pipeline.config.params import Run, read_params
from pipeline.display import plain
from pipeline.errors import UserError
from pipeline.repro import dvc, every_run
from pipeline.stages.entry import guarded

DRY = "--dry-run-of"  # the call of this program in which DVC is asked about one run


def stale_stages(run: Run, root: Path = Path()) -> list[str]:
    """Stages that `dvc repro` would run for a run. Raises UserError when DVC itself fails."""
    command = [sys.executable, "-m", "pipeline.fresh", DRY, run.model, run.label, *run.overrides]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    # What a stage would read may be left elsewhere: DVC gives up at the first stage that it would run then.
    given_up = re.findall(r"failed to reproduce '([^']+)'", result.stderr)
    if result.returncode != 0 and not given_up:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(f"dvc: {lines[-1] if lines else result.stderr.strip()}")
    return list(dict.fromkeys([*re.findall(r"Running stage '([^']+)'", result.stdout), *given_up]))


def missing_results(run: Run, root: Path = Path()) -> list[Path]:
    """Committed results of a run that are not there: DVC, asked without data, takes them for data left elsewhere."""
    stages = parse_yaml(read_text(root / "dvc.yaml"), "dvc.yaml")["stages"].values()
    outs = [out for stage in stages for key in ("outs", "metrics") for out in stage.get(key, ())]
    named = [path for out in outs if isinstance(out, dict) for path, how in out.items() if how.get("cache") is False]
    paths = {path.replace("${item.model}", run.model).replace("${item.run}", run.label) for path in named}
    return sorted(root / path for path in paths if not (root / path).exists())


def stray_folders(runs: Sequence[Run], root: Path = Path()) -> list[Path]:
    """Folders of committed results that belong to no run."""
    wanted = {(run.model, run.label) for run in runs}
    tops = [root / "outputs" / name for name in ("eval", "figures", "models")]
    folders = [folder for top in tops for folder in top.glob("*/*/")]
    alone = [folder for top in tops for folder in top.glob("*/") if not any(folder.glob("*/"))]
    return sorted([folder for folder in folders if (folder.parent.name, folder.name) not in wanted] + alone)


def _problems() -> list[str]:
    runs = every_run()
    found = [
        f"{stage} is out of date: run `make repro PROFILE={run.label}`" for run in runs for stage in stale_stages(run)
    ]
    found += [f"{path} is missing: check it out again" for run in runs for path in missing_results(run)]
    found += [f"{folder} is of no run in dvc.lock or params.yaml: delete it" for folder in stray_folders(runs)]
    return found


def main() -> None:
    """Print every stage that is out of date and every stray folder."""
    if sys.argv[1:2] == [DRY]:
        model, label, *overrides = sys.argv[2:]
        sys.exit(dvc(Run(model, label, tuple(overrides)), "repro", "--dry", "--allow-missing"))
    Parser(__doc__).parse_args()

    def run() -> None:
        read_params()
        problems = _problems()
        for line in problems:
            print(plain(f"FAIL {line}"))
        if problems:
            sys.exit(1)
        print(
            "fresh: dvc.lock, configuration, code and results belong together, of " + "; ".join(map(str, every_run()))
        )

    guarded(run)


if __name__ == "__main__":
    main()
