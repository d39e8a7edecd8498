"""readme: make the tables and measured sentences of README.md and docs/ again, from the committed results and conf/.

Exit status 0 also where nothing changed.
"""

from pipeline.entry.arguments import Parser


def main() -> None:
    """Command line."""
    Parser(__doc__).parse_args()

    from pipeline.disk.files import replacing
    from pipeline.entry.program import guarded
    from pipeline.report.pages import PAGES, edited, renewed

    def run() -> None:
        changed = edited()
        for page in changed:
            text = renewed(page)
            with replacing(page) as path:
                path.write_text(text, encoding="utf-8")
        for page in PAGES:
            print(f"{page}: {', '.join(changed.get(page, [])) or 'nothing'} made again")

    guarded(run)
