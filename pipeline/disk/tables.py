"""Small tables as CSV and figures as PNG."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.disk.files import replacing

if TYPE_CHECKING:  # names for types: whoever has a table or a figure has loaded the library, and other stages need not
    import pandas as pd
    from matplotlib.figure import Figure


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """A small table without its index."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_png(path: Path, figure: "Figure", provenance: Mapping[str, Any]) -> None:
    """A figure as PNG that carries its provenance as text; no date is kept, so equal figures are equal bytes."""
    text = {"Software": None, "provenance": json.dumps(provenance, sort_keys=True)}
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata=text)
