"""code: write the hash of the code that each stage can reach, and hold what DVC keeps against its hashes.

Stage `code` of dvc.yaml, which always runs: nobody needs it by hand.
"""

from pipeline.entry.arguments import Parser


def main() -> None:
    """Command line."""
    Parser(__doc__).parse_args()

    from pipeline.artifacts.layout import CODE, WORKSPACE
    from pipeline.disk.files import write_json
    from pipeline.disk.locks import is_held
    from pipeline.entry.program import guarded
    from pipeline.graph import closure, kept

    def run() -> None:
        write_json(CODE, closure.record())
        if not is_held(WORKSPACE):  # else `repro` runs the graph, and verifies as it goes
            kept.verify()

    guarded(run)
