"""Do dvc.lock, the configuration, the code and the committed metrics belong together?

Needs no data: asks `dvc repro --dry --allow-missing` which stages it would run. Exit 1 names them.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from pipeline.config.params import read_params
from pipeline.errors import UserError
from pipeline.stages.entry import guarded


def stale_stages(root: Path = Path()) -> list[str]:
    """Stages that `dvc repro` would run. Raises UserError when DVC itself fails."""
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(f"dvc: {lines[-1] if lines else result.stderr.strip()}")
    return re.findall(r"Running stage '([^']+)'", result.stdout)


def stray_models(models: list[str], root: Path = Path()) -> list[str]:
    """Folders of committed metrics or configurations that params.yaml does not name."""
    folders = [*(root / "outputs" / "eval").glob("*/"), *(root / "outputs" / "models").glob("*/")]
    return sorted({folder.name for folder in folders if folder.name not in models})


def main() -> None:
    """Print every stage that is out of date and every stray folder."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()

    def run() -> None:
        stale = [f"FAIL {stage} is out of date: run `make repro`" for stage in stale_stages()]
        stray = [
            f"FAIL outputs/*/{name} is of no model in params.yaml: delete it"
            for name in stray_models(read_params().models)
        ]
        for line in (*stale, *stray):
            print(line)
        if stale or stray:
            sys.exit(1)
        print("fresh: dvc.lock, configuration, code and metrics belong together")

    guarded(run)


if __name__ == "__main__":
    main()
