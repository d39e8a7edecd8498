"""What the graph says of one stage of a run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifacts.files import read_text
from pipeline.artifacts.plain import parse_yaml

GRAPH = Path("dvc.yaml")


def remove_outs(stage: str, model: str, run: str) -> None:
    """Remove what a stage makes, as DVC does before it runs one."""
    for path in outs(stage, model, run):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def outs(stage: str, model: str, run: str) -> Iterator[Path]:
    """Files and folders that a stage of a run makes."""
    described = parse_yaml(read_text(GRAPH), str(GRAPH))["stages"][stage]
    for out in (*described.get("outs", ()), *described.get("metrics", ())):
        [name] = [out] if isinstance(out, str) else out  # {path: how DVC keeps it}
        yield Path(name.replace("${item.model}", model).replace("${item.run}", run))
