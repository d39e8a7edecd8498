"""orthogonalize: write a model's weights with a direction removed, without ever loading the model.

    python -m pipeline orthogonalize llama_3_8b --direction direction.safetensors --out folder
    python -m pipeline orthogonalize llama_3_8b --recipe outputs/models/llama_3_8b/quick/export --out folder

The checkpoint is edited tensor by tensor, in the dtype it is stored in. The same command goes on with
what an interrupted one left. Hydra overrides may follow, such as model.source.kind=folder.
With --recipe, the export of a run with export.keep=proof is made again, and its files are held
against the hashes that the run recorded.
"""

from pathlib import Path

from pipeline.entry.arguments import Parser


def main() -> None:
    """Command line: the model, its direction, where to write, overrides."""
    parser = Parser(__doc__)
    parser.add_argument("model", help="name of a file in conf/model/")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--direction", type=Path, help="direction.safetensors of the same model")
    which.add_argument("--recipe", type=Path, help="folder of an export that was kept as proof: its bytes again")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not be there yet")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides")
    arguments = parser.parse_intermixed_args()

    from omegaconf import OmegaConf

    from pipeline.config.compose import compose
    from pipeline.config.schema import Config
    from pipeline.display import plain
    from pipeline.entry.export import again, orthogonalize
    from pipeline.entry.program import guarded

    def run() -> None:
        config = OmegaConf.to_object(compose(arguments.model, "standard", arguments.overrides))
        assert isinstance(config, Config)
        if arguments.recipe:
            n_files = again(config, arguments.recipe, arguments.out)
            print(plain(f"{arguments.out}: {n_files} files, byte for byte those that {arguments.recipe} records"))
            return
        coverage = orthogonalize(config, arguments.direction, arguments.out)
        print(plain(f"{arguments.out}: {coverage['n_edited']} of {coverage['n_writers']} writers edited"))

    guarded(run)
