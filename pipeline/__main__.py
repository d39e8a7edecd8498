"""One door: python -m pipeline VERB ...; `python -m pipeline` lists the verbs."""

import argparse
import importlib
import sys

from pipeline.entry.arguments import Parser

# Verb: what it is for. Its module has its name, in pipeline/commands/.
VERBS = {
    "run": {
        "check": "does this model work? open it, try everything, say what was found",
        "repro": "run every stage that is out of date, and print the results",
        "report": "the tables of a run",
        "figures": "make the figures of every run",
        "sweep": "many models or settings, each an isolated run of the graph (Hydra multirun)",
        "seeds": "the same model over several seeds and sampled answers: what they say together",
    },
    "look at one thing": {
        "select": "choose a direction from candidate scores in a file",
        "judge": "judge any file of completions",
        "agreement": "agreement of judges on the same completions",
        "orthogonalize": "write a model's weights with a direction removed",
        "search-suffix": "search an adversarial suffix on your own open model",
        "fit-probe": "fit the embedded judge of safety again",
        "golden": "the paper's published results, computed again",
    },
    "keep watch": {
        "gate": "fail when a refusal rate moved from its baseline",
        "fresh": "fail when code, configuration and committed results do not belong together",
        "readme": "make the tables and measured sentences of README.md and docs/ again from the committed results",
        "families": "check every family file on a random tiny model",
        "bench": "what the pipeline costs on this machine, as ratios",
        "cache": "what is on the disk, for which run, and what nobody needs any more",
        "code": "what stage `code` of dvc.yaml does: hashes of code, and of what DVC keeps",
    },
}


def _listed() -> str:
    width = max(len(verb) for group in VERBS.values() for verb in group)
    groups = (
        f"{title}:\n" + "\n".join(f"  {verb:{width}}  {text}" for verb, text in group.items())
        for title, group in VERBS.items()
    )
    return "\n\n".join(groups)


def main() -> None:
    """Hand the rest of the command line to the verb's module."""
    verbs = [verb for group in VERBS.values() for verb in group]
    parser = Parser(
        "Does a chat model refuse through a single direction of its residual stream?", prog=_name(), epilog=_listed()
    )
    parser.add_argument("verb", choices=verbs, metavar="VERB", help="one of those below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help=f"see {_name()} VERB --help")
    arguments = parser.parse_args(sys.argv[1:] or ["--help"])
    sys.argv = [f"{_name()} {arguments.verb}", *arguments.rest]
    importlib.import_module(f"pipeline.commands.{arguments.verb.replace('-', '_')}").main()


def _name() -> str:
    return "python -m pipeline" if sys.argv[0].endswith("__main__.py") else "refusal-direction"


if __name__ == "__main__":
    main()
