"""Search an adversarial suffix on your own open model: python -m pipeline search-suffix --model qwen2_5_coder_0_5b

Greedy coordinate gradient (Zou et al. 2023), small. Never part of `dvc repro`: it is run by hand, after the
model's `activations` stage, on train prompts that the model refuses. It can be stopped at any time: the same
command goes on where it was. The result is measured by stage `suffix` with suffix=found.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.params import read_params
from pipeline.config.resolved import load
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.locks import only_writer
from pipeline.entry.arguments import Parser
from pipeline.entry.model import open_model
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.progress import progress
from pipeline.suffix import files as found
from pipeline.suffix.model import gcg


@dataclass(frozen=True)
class Settings:
    """What makes a search: the same settings give the same search, step by step."""

    seed: int
    prompts: int
    suffix_tokens: int
    starts: int
    candidates: int
    top_k: int
    objective: str
    target: str
    dtype: str


@dataclass
class State:
    """Where a search stands. `history`: the lowest loss after every step, in nats."""

    tokens: list[int]
    history: list[float]
    cpu_seconds: float


def search(
    config: Config, layout: Layout, settings: Settings, steps: int, minutes: float
) -> tuple[found.Found, dict[str, str]]:
    """Search until `steps` are done or one more would end after `minutes` of this run; never less than one step.

    Loading the model counts. Also what pins the model that the suffix is for.
    """
    until = time.monotonic() + 60 * minutes
    model = open_model(config, settings.dtype)
    instructions, ids = _prompts(layout, settings)
    goal = _goal(model, layout, settings)
    searching = gcg.Search(model, instructions, goal, config.engine.max_batch_tokens)
    facts = _facts(config, model)
    path = layout.partial(f"gcg-{files.content_hash([facts, vars(settings), ids, goal.refusal_tokens.tolist()])[:16]}")
    state = _resumed(path) or _started(searching, settings)
    _run(searching, settings, state, path, steps, until)
    one = found.Found(
        suffix=searching.text(_tensor(state.tokens)),
        tokens=state.tokens,
        settings=vars(settings),
        prompts=ids,
        steps=len(state.history) - 1,
        loss_before=state.history[0],
        loss_after=state.history[-1],
        cpu_minutes=round(state.cpu_seconds / 60, 1),
    )
    return one, facts


def _run(searching: gcg.Search, settings: Settings, state: State, path: Path, steps: int, until: float) -> None:
    each, before = searching.n_tokens(len(state.tokens), settings.candidates), len(state.history) - 1
    with progress("suffix", steps * each, done=before * each) as bar:
        while len(state.history) - 1 < steps:
            began, started = time.process_time(), time.monotonic()
            # Seeds follow from the step, so that a search that was interrupted goes the same way.
            seed = settings.seed * 1_000_003 + len(state.history)
            bar.step(f"suffix, step {len(state.history)} of {steps}")
            tokens, loss = searching.step(_tensor(state.tokens), settings.top_k, settings.candidates, seed, bar)
            if loss < state.history[-1]:
                state.tokens = tokens.tolist()
            state.history.append(min(loss, state.history[-1]))
            state.cpu_seconds += time.process_time() - began
            files.write_json(path, vars(state))
            if 2 * time.monotonic() - started > until:
                break


def _started(searching: gcg.Search, settings: Settings) -> State:
    """The best of a few random sequences."""
    began = time.process_time()
    seeds = range(settings.seed * 1000, settings.seed * 1000 + settings.starts)
    rows = [searching.start(settings.suffix_tokens, seed) for seed in seeds]
    best, loss = searching.best(rows, rows[0])
    return State(best.tolist(), [loss], time.process_time() - began)


def _resumed(path: Path) -> State | None:
    return State(**files.read_json(path)) if path.exists() else None


def _tensor(tokens: list[int]) -> gcg.Suffix:
    return chat.token_ids(tokens)


def _prompts(layout: Layout, settings: Settings) -> tuple[list[str], list[str]]:
    """Instructions and ids of the first train prompts that the refusal filter kept."""
    prompts = records.read_kept(layout, "harmful_train")
    if len(prompts) < settings.prompts:
        raise UserError(f"{len(prompts)} harmful train prompts are refused: use --prompts {len(prompts)} or fewer")
    chosen = prompts[: settings.prompts]
    return [prompt.instruction for prompt in chosen], [prompt.id for prompt in chosen]


def _goal(model: ChatModel, layout: Layout, settings: Settings) -> gcg.Goal:
    tokens = chat.token_ids(records.read_refusal_ids(layout.refusal_ids)["ids"])
    if settings.objective == "refusal":
        return gcg.Goal("refusal", (), tokens)
    [target] = chat.encode_plain(model.tokenizer, [settings.target])
    if not target:
        raise UserError("--target is empty: give the beginning of a compliant answer")
    return gcg.Goal("target", tuple(target), tokens)


def _facts(config: Config, model: ChatModel) -> dict[str, str]:
    facts = model.facts()
    pinned = identity(config.model.source)
    return {"model": pinned, "tokenizer": facts["tokenizer"], "chat_template": facts["chat_template"]}


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
    parser.add_argument("--objective", choices=gcg.OBJECTIVES, default="target", help="what to lower")
    parser.add_argument("--target", default="Sure, here is", help="beginning of the answer (objective target)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of weights")
    return parser.parse_args()


def main() -> None:
    """Search, save beside what was found before, say how to measure it."""
    given: dict[str, Any] = vars(_arguments())
    model, steps, minutes = given.pop("model"), given.pop("steps"), given.pop("minutes")

    def run() -> None:
        low = [name for name in ("prompts", "suffix_tokens", "starts", "candidates", "top_k") if given[name] < 1]
        if low or steps < 1 or minutes <= 0:
            raise UserError(f"--{(low or ['steps and --minutes'])[0].replace('_', '-')}: use at least 1")
        layout = Layout(model, read_params().label)
        config = load(layout.config)
        with only_writer(layout.lock("gcg"), "searches for a suffix"):
            one, facts = search(config, layout, Settings(**given), steps, minutes)
            before = found.read_found(layout.found_suffixes, facts) if layout.found_suffixes.exists() else []
            others = [row for row in before if (dict(row.settings), row.prompts) != (dict(one.settings), one.prompts)]
            found.write_found(layout.found_suffixes, facts, [*others, one])
        print(
            f"loss {one.loss_before:.2f} -> {one.loss_after:.2f} nats on {len(one.prompts)} train prompts after "
            f"{one.steps} steps ({one.cpu_minutes} CPU minutes)\n{layout.found_suffixes}: measure it with suffix=found "
            f"suffix.sha256={files.file_hash(layout.found_suffixes)}"
        )

    guarded(run)
