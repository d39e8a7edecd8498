"""Small tables as CSV and figures as PNG."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pipeline.artifacts.files import replacing


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """A small table without its index."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_png(path: Path, figure: Figure) -> None:
    """A figure as PNG; no software version or date is kept, so equal figures are equal bytes."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
