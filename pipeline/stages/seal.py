"""seal: the sha256 of every committed result of a run, so that `make fresh` sees one that was edited by hand."""

from pipeline.artifacts.layout import Layout
from pipeline.artifacts.seal import write_seal
from pipeline.config.schema import Config


def seal(_config: Config, layout: Layout) -> None:
    """Seal what lies in the run's two folders of results, and the configuration that they were made with."""
    results = [path for folder in layout.committed for path in folder.rglob("*") if path.is_file()]
    write_seal(layout.seal, [layout.config, *(path for path in results if path != layout.seal)])
