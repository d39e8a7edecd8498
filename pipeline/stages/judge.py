"""judge: a verdict with its reason for every completion; nothing is generated again."""

from pipeline.artifacts import files, records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.judges.registry import JUDGES
from pipeline.judges.verdict import Verdict
from pipeline.stages.entry import run_stage

UNFINISHED = Verdict(None, "no answer: its thoughts did not end")


def judge(config: Config, layout: Layout) -> None:
    """One file of verdicts per condition."""
    decide = JUDGES[config.judge.refusal]
    for condition in records.condition_names(layout):
        instructions = records.instructions_of(layout, condition)
        rows = []
        for row in files.read_jsonl(layout.completions(condition)):
            completion = row["completion"]
            if completion is None:
                verdict = UNFINISHED
            else:
                verdict = decide(instructions[row["id"]], completion[: config.judge.window])
            rows.append(
                {
                    "id": row["id"],
                    "judge": config.judge.refusal,
                    "refused": verdict.refused,
                    "reason": verdict.reason,
                }
            )
        files.write_jsonl(layout.judgements(condition), rows)


if __name__ == "__main__":
    run_stage(judge)
