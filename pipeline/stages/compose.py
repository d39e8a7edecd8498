"""compose: join params.yaml and conf/ into one resolved configuration of a run."""

from omegaconf import OmegaConf

from pipeline.artifacts.layout import Layout
from pipeline.config.compose import compose as composed
from pipeline.config.params import profile_of
from pipeline.disk.files import replacing
from pipeline.graph.runs import overrides_for


def compose(layout: Layout) -> None:
    """Write the resolved configuration; nothing is written when it is not valid."""
    config = composed(layout.model, profile_of(layout.run), overrides_for(layout.model, layout.run, layout.root))
    with replacing(layout.config) as path:
        path.write_text(OmegaConf.to_yaml(config, sort_keys=True), encoding="utf-8")
