"""What each stage of the pipeline cost when it last ran here, as whole processes: imports and loading included."""

from collections.abc import Iterator

from pipeline.artifacts.layout import Layout
from pipeline.bench.timing import Row
from pipeline.disk import files
from pipeline.errors import UserError

SECTION = "stages, last run"


def rows(layout: Layout) -> Iterator[Row]:
    """Seconds and peak memory by stage, and the seconds of all.

    Raises UserError when no stage has run in this folder.
    """
    if not layout.costs.exists():
        raise UserError(f"{layout.costs} is missing: run `make repro`, then `make bench`")
    last = {row["stage"]: row for row in files.read_jsonl(layout.costs)}
    for stage, row in last.items():
        yield Row(SECTION, f"{stage}: time", row["seconds"], "s")
        yield Row(SECTION, f"{stage}: peak memory", row["memory_mib"], "MiB")
        if row["gpu_memory_mib"]:
            yield Row(SECTION, f"{stage}: peak GPU memory", row["gpu_memory_mib"], "MiB")
    yield Row(SECTION, f"all {len(last)} stages: time", sum(row["seconds"] for row in last.values()), "s")
