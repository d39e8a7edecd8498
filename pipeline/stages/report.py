"""report: the tables of a run, printed, and kept as text beside what was found."""

import shutil
from pathlib import Path

from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.disk.files import replacing
from pipeline.disk.shape import AGAIN
from pipeline.errors import UserError
from pipeline.report.tables.claim import closing, text


def report(_config: Config, layout: Layout) -> None:
    """Write what `python -m pipeline report` shows, and show it; copy what a clone needs to have without data."""
    shutil.rmtree(layout.found_folder, ignore_errors=True)
    for source in filter(Path.exists, layout.found):
        if not source.is_file():
            raise UserError(f"{source} is no file: {AGAIN}")
        with replacing(layout.found_folder / source.name) as path:
            shutil.copyfile(source, path)
    shown = text(layout.metrics)
    with replacing(layout.report) as path:
        path.write_text(shown, encoding="utf-8")
    print(shown + closing(layout.run), end="")
