"""One door: python -m pipeline VERB ...; `python -m pipeline` lists the verbs."""

import argparse
import importlib
import sys

from pipeline.entry.arguments import Parser

# Verb: the module that does it, and what it is for.
VERBS = {
    "cache": ("pipeline.commands.cache", "what is on the disk, for which run, and what nobody needs any more"),
    "check": ("pipeline.commands.check", "does this model work? open it, try everything, say what was found"),
    "golden": ("pipeline.commands.golden", "the paper's published results, computed again"),
    "readme": ("pipeline.commands.readme", "make the README's tables again from the committed results"),
    "report": ("pipeline.commands.report", "the tables of a run"),
}


def main() -> None:
    """Hand the rest of the command line to the verb's module."""
    parser = Parser(
        "Does a chat model refuse through a single direction of its residual stream?",
        epilog="verbs:\n" + "\n".join(f"  {verb:8} {text}" for verb, (_, text) in VERBS.items()),
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help=f"one of {', '.join(VERBS)}")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="see python -m pipeline VERB --help")
    arguments = parser.parse_args(sys.argv[1:] or ["--help"])
    sys.argv = [f"python -m pipeline {arguments.verb}", *arguments.rest]
    importlib.import_module(VERBS[arguments.verb][0]).main()


if __name__ == "__main__":
    main()
