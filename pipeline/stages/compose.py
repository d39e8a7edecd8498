"""compose: join params.yaml and conf/ into one resolved configuration of a model."""

import argparse
from collections.abc import Sequence

from omegaconf import OmegaConf

from pipeline.artifacts.files import replacing
from pipeline.artifacts.layout import Layout
from pipeline.config.compose import compose
from pipeline.config.params import read_params
from pipeline.stages.entry import guarded


def write_config(layout: Layout, profile: str, overrides: Sequence[str]) -> None:
    """Write the resolved configuration; nothing is written when it is not valid."""
    config = compose(layout.model, profile, overrides)
    with replacing(layout.config) as path:
        path.write_text(OmegaConf.to_yaml(config, sort_keys=True))


def main() -> None:
    """Command line: the model; profile and overrides come from params.yaml."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name of a file in conf/model/")
    layout = Layout(parser.parse_args().model)

    def run() -> None:
        params = read_params()
        write_config(layout, params.profile, params.overrides)

    guarded(run)


if __name__ == "__main__":
    main()
