"""What the configured runs need of the cache folder, and which stages all of them have finished."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.artifacts.provenance import converted_recipe, random_recipe
from pipeline.config.compose import compose
from pipeline.config.opening import SourceConfig
from pipeline.config.params import Run, profile_of
from pipeline.config.schema import Config
from pipeline.entry.judging import reader_config
from pipeline.graph.declared import read_graph
from pipeline.judges.formats.formats import FORMATS
from pipeline.names import PROBE
from pipeline.sources.held import Needed


def configurations(runs: Sequence[Run]) -> dict[str, Config]:
    """The configuration of each run, by the run in words. Raises UserError for one that conf/ does not make."""
    configs = {}
    for run in runs:
        config = OmegaConf.to_object(compose(run.model, profile_of(run.label), run.overrides))
        assert isinstance(config, Config)
        configs[str(run)] = config
    return configs


def needed(configs: dict[str, Config], version: str) -> Needed:
    """Downloads, converted and random models, and repositories; `version`: of transformers."""
    found = Needed()
    for run, config in configs.items():
        for sha256 in set(_hashes(OmegaConf.to_container(OmegaConf.structured(config)))):
            found.downloads.setdefault(sha256, []).append(run)
        _model(found, run, config.model.source, version)
        for judge in config.judge.safety:
            if judge in config.judge.endpoints or judge in config.judge.folders:
                continue
            if judge == PROBE:
                source = reader_config(config).model.source
                found.downloads.setdefault(source.sha256, []).append(f"{run}, judge {judge}")
                _model(found, f"{run}, judge {judge}", source, version)
            else:
                for repository in FORMATS[judge].repositories(config.judge.revisions.get(judge, "")):
                    found.repositories.setdefault(repository, []).append(f"{run}, judge {judge}")
    return found


def _model(found: Needed, run: str, source: SourceConfig, version: str) -> None:
    match source.kind:
        case "gguf":
            recipe = converted_recipe(source.sha256)
            found.folders.setdefault(f"{recipe}-transformers-{version}", []).append(run)
        case "random":
            recipe = random_recipe(source.model_type, source.seed, source.options)
            found.folders.setdefault(f"{recipe}-transformers-{version}", []).append(run)
        case "hub":
            found.repositories.setdefault((source.repo, source.revision), []).append(run)


def _hashes(value: Any) -> Iterator[str]:
    """Every sha256 that a configuration names, wherever in it."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from [inside] if key == "sha256" and inside else _hashes(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _hashes(inside)


def finished(runs: Sequence[Run], root: Path = Path()) -> set[str]:
    """Stages whose outs every run has; one that is under way, or was interrupted, has none."""
    graphs = [read_graph(root, run.model, run.label) for run in runs]
    return {
        name
        for name in read_graph(root)
        if all((root / out.path).exists() for graph in graphs for out in graph[name].outs)
    }
