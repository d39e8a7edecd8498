"""Search an adversarial suffix on your own open model: python -m pipeline search-suffix --model qwen2_5_coder_0_5b

Greedy coordinate gradient (Zou et al. 2023), small. Never part of `dvc repro`: it is run by hand, after the
model's `activations` stage, on train prompts that the model refuses. It can be stopped at any time: the same
command goes on where it was. The result is measured by stage `suffix` with suffix=found.
"""

import argparse
import time
from typing import Any

from pipeline.entry.arguments import Parser
from pipeline.names import SEARCH_OBJECTIVES


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--model", required=True, help="name of a file in conf/model/, after its activations stage")
    parser.add_argument("--steps", type=int, default=100, help="steps at most (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="minutes of this run at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another search (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=4, help="refused train prompts (default: %(default)s)")
    parser.add_argument("--suffix-tokens", type=int, default=16, help="length of the suffix (default: %(default)s)")
    parser.add_argument(
        "--starts", type=int, default=16, help="random beginnings, the best is kept (default: %(default)s)"
    )
    parser.add_argument("--candidates", type=int, default=40, help="changes tried per step (default: %(default)s)")
    parser.add_argument("--top-k", type=int, default=64, help="tokens per place to draw from (default: %(default)s)")
    parser.add_argument("--objective", choices=SEARCH_OBJECTIVES, default="affirmative", help="what to lower")
    parser.add_argument("--target", default="Sure, here is", help="beginning of the answer (objective affirmative)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of weights")
    return parser.parse_args()


def main() -> None:
    """Search, save beside what was found before, say how to measure it."""
    given: dict[str, Any] = vars(_arguments())
    model, steps, minutes = given.pop("model"), given.pop("steps"), given.pop("minutes")

    from pipeline.artifacts.layout import Layout
    from pipeline.config.params import read_params
    from pipeline.config.resolved import load
    from pipeline.disk import files
    from pipeline.disk.locks import only_writer
    from pipeline.entry.model import open_model
    from pipeline.entry.program import guarded
    from pipeline.errors import UserError

    def run() -> None:
        low = [name for name in ("prompts", "suffix_tokens", "starts", "candidates", "top_k") if given[name] < 1]
        if low or steps < 1 or minutes <= 0:
            raise UserError(f"--{(low or ['steps and --minutes'])[0].replace('_', '-')}: use at least 1")
        if given["objective"] == "refusal":
            given["target"] = ""  # plays no part in that search
        layout = Layout(model, read_params().label)
        config = load(layout.config)
        with only_writer(layout.lock("gcg"), "searches for a suffix"):
            until = time.monotonic() + 60 * minutes  # loading the model counts
            opened = open_model(config, given["dtype"])
            from pipeline.suffix import files as found
            from pipeline.suffix.search import search

            one, facts = search(config, opened, layout, found.Settings(**given), steps, until)
            before = found.read_found(layout.found_suffixes, facts) if layout.found_suffixes.exists() else []
            others = [row for row in before if (row.settings, row.prompts) != (one.settings, one.prompts)]
            found.write_found(layout.found_suffixes, facts, [*others, one])
        print(
            f"loss {one.loss_before:.2f} -> {one.loss_after:.2f} nats on {len(one.prompts)} train prompts after "
            f"{one.steps} steps ({one.cpu_minutes} CPU minutes)\n{layout.found_suffixes}: measure it with suffix=found "
            f"suffix.sha256={files.file_hash(layout.found_suffixes)}"
        )

    guarded(run)
