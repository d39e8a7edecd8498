"""texts: fetch and draw the documents and the instructions with answers whose loss is measured."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import TEXTS, Layout
from pipeline.config.data import FileSpec, TextSpec
from pipeline.config.schema import Config
from pipeline.entry.folders import cache_folder, mirror_folder
from pipeline.loss.texts import draw
from pipeline.sources import local_path

OTHERWISE = "check the network, or use text=builtin, for which a package index is enough"


def texts(config: Config, layout: Layout) -> None:
    """Two sets of texts."""
    sizes = {"plain_text": config.text.n_documents, "instruction_answers": config.text.n_answers}

    def open_file(spec: FileSpec) -> Path:
        return local_path(spec.file, spec.sha256, spec.places, cache_folder(config), mirror_folder(config))

    for name in TEXTS:
        specs, size = getattr(config.text, name), sizes[name]
        rows = draw(name, specs, size, config.seed, open_file, _stream) if size else []
        records.write_texts(layout.texts(name), rows)


def _stream(spec: TextSpec) -> Iterator[Mapping[str, Any]]:
    from pipeline.sources.rows import stream  # only data sets of a hub need the library that streams them

    return stream(spec.repo, spec.revision, spec.split, spec.n_rows, OTHERWISE)
