"""engine: fetch the model, and settle in which dtype this machine computes; later stages take it from here."""

from pipeline.artifacts.layout import Layout
from pipeline.config.checks import AUTO
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.progress import note


def engine(config: Config, layout: Layout) -> None:
    """{dtype}, and nothing that differs between two runs on one machine."""
    from pipeline.entry.model import model_folder

    folder, dtype = model_folder(config), config.engine.dtype
    if dtype == AUTO:
        from pipeline.model.loading import fastest

        speeds = fastest.speeds(folder, config.engine.device)
        dtype = max(speeds, key=speeds.__getitem__)
        shown = ", ".join(f"{name} {speed / 1e9:,.0f} GFLOP/s" for name, speed in speeds.items())
        note(f"a matrix product of this model's width: {shown}; this run computes in {dtype}")
    files.write_json(layout.engine, {"dtype": dtype})
