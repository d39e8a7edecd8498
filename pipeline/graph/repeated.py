"""Do the committed results over seeds belong to the code and the configuration that are here?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config.compose import compose
from pipeline.disk.files import content_hash
from pipeline.graph import closure
from pipeline.graph.declared import read_graph
from pipeline.results.repeated import FOLDER, read_repeated

LAST = "metrics"  # the stage that writes the numbers of a run
NO_SAY = ("fetch", "memory")  # parts of the configuration on which no result depends


def code_of(root: Path = Path()) -> dict[str, str]:
    """Hash of the code by stage, of `metrics` and all the stages before it."""
    hashes = closure.summary(closure.reached(root))["stages"]
    return {stage: hashes[stage] for stage in sorted(before(LAST, root)) if stage in hashes}


def before(last: str, root: Path = Path()) -> set[str]:
    """A stage and all whose outs reach it."""
    graph, found, new = read_graph(root), set[str](), {last}
    while new:
        found |= new
        read = {Path(path) for name in new for path in (*graph[name].deps, *graph[name].params)}
        wanted = read | {parent for path in read for parent in path.parents}
        new = {name for name, stage in graph.items() if wanted & {Path(out.path) for out in stage.outs}} - found
    return found


def configured(config: DictConfig) -> str:
    """Hash of a run's configuration, but for what no result depends on."""
    values: Any = OmegaConf.to_container(config)
    values["export"].pop("keep", None)
    return content_hash({key: value for key, value in values.items() if key not in NO_SAY})[:16]


def stale(root: Path = Path()) -> Iterator[str]:
    """A line for each model whose results over seeds were made by other code, or under another configuration."""
    code = code_of(root) if any((root / FOLDER).glob("*/seeds.json")) else {}
    for path in sorted((root / FOLDER).glob("*/seeds.json")):
        repeated = read_repeated(path)
        changed = [stage for stage, digest in code.items() if repeated.origin.code.get(stage) != digest]
        now = compose(repeated.model, repeated.profile, repeated.runs[0].overrides, (root / "conf").resolve())
        changed += ["configuration"] if configured(now) != repeated.origin.config else []
        if changed:
            remedy = f"run `python -m pipeline seeds --model {repeated.model}`"
            yield f"{path} is out of date, by {', '.join(changed)}: {remedy}"
