"""readme: make the README's tables again from the committed results; exit status 0 also where nothing changed."""

from pipeline.disk.files import read_text, replacing
from pipeline.entry.arguments import Parser
from pipeline.entry.program import guarded
from pipeline.report.readme import README, edited, renewed


def main() -> None:
    """Command line."""
    Parser(__doc__).parse_args()

    def run() -> None:
        changed = edited()
        text = renewed(read_text(README))
        if changed:
            with replacing(README) as path:
                path.write_text(text, encoding="utf-8")
        print(f"{README}: {', '.join(changed) or 'nothing'} made again")

    guarded(run)
