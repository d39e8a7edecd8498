"""Start one stage of a run: python -m pipeline.stages STAGE --model MODEL --run RUN

Says what starts before anything slow is imported, and what it took. No result depends on it.
"""

import importlib
import sys

from pipeline.config.labels import require_label, require_name
from pipeline.entry.arguments import Parser
from pipeline.errors import UserError
from pipeline.graph.declared import read_graph


def _place(name: str, names: list[str]) -> tuple[str, str]:
    """`7/23 scores`, and the stage that follows."""
    if name not in names:
        return name, ""
    index = names.index(name)
    return f"{index + 1}/{len(names)} {name}", (*names[index + 1 :], "")[0]


def _joined(words: list[str]) -> list[str]:
    """`--model=X` for `--model X`, so that a name that begins with a dash is a name, which is refused as one."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--model", "--run"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def main() -> None:
    """Run the stage named on the command line."""
    parser = Parser("Run one stage of a run.", prog="python -m pipeline.stages")
    try:
        stages = {name: stage.desc for name, stage in read_graph().items()}
    except UserError as error:
        sys.exit(f"error: {error}")
    parser.add_argument("stage", help="a stage of dvc.yaml: " + ", ".join(stages))
    parser.add_argument("--model", required=True, help="name of a file in conf/model/")
    parser.add_argument("--run", required=True, help="the run's label: a profile, or PROFILE-NAME")
    arguments = parser.parse_args(_joined(sys.argv[1:]))
    if stages and arguments.stage not in stages:
        parser.error(f"no stage '{arguments.stage}'")
    try:
        require_name("model", arguments.model)
        require_label(arguments.run)
    except UserError as error:
        sys.exit(f"error: {error}")

    from pipeline.entry.bars import Named, announce, note

    place, following = _place(arguments.stage, list(stages))
    announce(place, following)
    note(f"{stages.get(arguments.stage, '')} ({arguments.model}, {arguments.run})")
    finder = Named(note)
    sys.meta_path.insert(0, finder)
    from pipeline.entry.program import guarded, run_stage
    from pipeline.entry.shortage import require_memory

    def run() -> None:
        require_memory()
        stage = getattr(importlib.import_module(f"pipeline.stages.{arguments.stage}"), arguments.stage)
        seconds = run_stage(stage, arguments.model, arguments.run)
        note(f"done in {seconds:.1f} s" + (f"; {following} comes next" if following else ""))

    try:
        guarded(run)
    finally:  # libraries import more as they are torn down: nothing may follow an error's line
        sys.meta_path.remove(finder)


if __name__ == "__main__":
    main()
