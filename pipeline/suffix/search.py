"""Searching suffixes, step by step, so that an interrupted search goes on where it was."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.artifacts.resume import unfinished
from pipeline.config.schema import Config
from pipeline.disk.steps import Steps
from pipeline.errors import UserError
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.progress import progress
from pipeline.suffix import files as found
from pipeline.suffix.files import Settings
from pipeline.suffix.model import gcg


@dataclass
class State:
    """Where a search stands. `history`: the lowest loss after every step, in nats."""

    tokens: list[int]
    history: list[float]
    cpu_seconds: float

    @property
    def step(self) -> dict[str, Any]:
        """The last step, as plain JSON values."""
        return {"tokens": self.tokens, "loss": self.history[-1], "cpu_seconds": self.cpu_seconds}


def search(
    config: Config, model: ChatModel, layout: Layout, settings: Settings, steps: int, until: float
) -> tuple[found.Found, dict[str, str]]:
    """Search until `steps` are done or one more would end after `until`, of `time.monotonic`; never less than one step.

    Also what pins the model that the suffix is for.
    """
    instructions, ids = _prompts(layout, settings)
    goal = _goal(model, layout, settings)
    searching = gcg.Search(model, instructions, goal, config.engine.max_batch_tokens)
    facts = _facts(config, model)
    kept = unfinished(layout.partial, "gcg", facts, settings, ids, goal.refusal_tokens)
    state = _resumed(kept, lambda: _started(searching, settings))
    _run(searching, settings, state, kept, steps, until)
    one = found.Found(
        suffix=searching.text(_tensor(state.tokens)),
        tokens=state.tokens,
        settings=settings,
        prompts=ids,
        steps=len(state.history) - 1,
        loss_before=state.history[0],
        loss_after=state.history[-1],
        cpu_minutes=round(state.cpu_seconds / 60, 1),
    )
    return one, facts


def _run(searching: gcg.Search, settings: Settings, state: State, kept: Steps, steps: int, until: float) -> None:
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
            kept.keep({str(len(state.history) - 1): state.step})
            if 2 * time.monotonic() - started > until:
                break


def _started(searching: gcg.Search, settings: Settings) -> State:
    """The best of a few random sequences."""
    began = time.process_time()
    seeds = range(settings.seed * 1000, settings.seed * 1000 + settings.starts)
    rows = [searching.start(settings.suffix_tokens, seed) for seed in seeds]
    best, loss = searching.best(rows, rows[0])
    return State(best.tolist(), [loss], time.process_time() - began)


def _resumed(kept: Steps, start: Callable[[], State]) -> State:
    """The state after the last step that is kept with every step before it; step 0 is the start."""
    first = kept("0", lambda: start().step)
    later = takewhile(lambda n: str(n) in kept.values, count(1))
    done = [first, *(kept.values[str(n)] for n in later)]
    return State(done[-1]["tokens"], [step["loss"] for step in done], done[-1]["cpu_seconds"])


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
    return gcg.Goal("affirmative", tuple(target), tokens)


def _facts(config: Config, model: ChatModel) -> dict[str, str]:
    facts = model.facts()
    pinned = identity(config.model.source)
    return {"model": pinned, "tokenizer": facts["tokenizer"], "chat_template": facts["chat_template"]}
