"""Capability tasks through lm-evaluation-harness, under whatever intervention is in force."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any
from unittest.mock import patch

import datasets
import httpx2
import numpy as np
from lm_eval.api.model import CacheHook
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from pipeline.capability.maths import Answer
from pipeline.errors import UserError, first_line
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.ticking import Advance, ticking, ticking_all
from pipeline.progress import progress

GROUP = "capability"
# With rows of our own there is one split and nothing to draw examples from.
ONE_SPLIT = {"training_split": None, "validation_split": None, "test_split": "test", "fewshot_split": None}
Base: Any = HFLM  # its decorator hides its type
UNREACHABLE = (ConnectionError, TimeoutError, httpx2.HTTPError)


@dataclass(frozen=True)
class Task:
    """A task of lm-eval: its registered name `base` (a group's too) with `options` merged over it.

    `rows`: the documents, where they are local; None: the data set that `base` names, from the hub.
    `metric`: as lm-eval names it, with its filter after a comma where that is not `none`.
    """

    name: str
    base: str
    metric: str
    options: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Result:
    """Answers by item (task/number, in the task's order), the harness's own value and its standard error."""

    answers: Mapping[str, Answer]
    value: float | None
    stderr: float | None


def run(model: ChatModel, task: Task, limit: int | None, seed: int, batch_size: int, description: str) -> Result:
    """Run one task on the model as it is, interventions in force included; `limit` questions, drawn with the seed.

    Raises UserError, in one line, for a task that lm-eval does not know or that does not fit its rows, a
    metric that it does not have, and a data set that cannot be reached.
    """
    terminal = sys.stderr
    with _quiet(offline=task.rows is not None):
        loaded = _loaded(task, seed)
        drawn = {name: _draw(len(leaf.eval_docs), limit, len(loaded["tasks"]), seed) for name, leaf in _leaves(loaded)}
        harness = _Harness(model, batch_size, description, terminal)
        try:
            found: Any = evaluate(harness, loaded, samples=drawn, bootstrap_iters=1000)
        except Exception as error:
            raise UserError(f"task '{task.name}' does not fit its data: {_reason(error)}: mend it in conf/") from error
    return _result(task, loaded, found)


def _loaded(task: Task, seed: int) -> Any:
    local = {} if task.rows is None else {"custom_dataset": _dataset(task.rows), **ONE_SPLIT}
    spec: dict[str, Any] = {"task": task.base, **local, **task.options}
    manager = _manager()
    if task.base in manager.all_tasks:  # only inside a group does lm-eval merge options over a registered task
        spec = {"group": GROUP, "task": [spec]}
    elif task.rows is None:
        raise UserError(f"lm-eval has no task '{task.base}': give capability task '{task.name}' another base or a file")
    try:
        loaded = manager.load([spec])
    except UNREACHABLE as error:
        raise UserError(
            f"task '{task.name}' needs the hub, which cannot be reached ({_reason(error)}): "
            "use capability=builtin, or capability=mirror with capability.folder"
        ) from error
    except Exception as error:
        raise UserError(f"task '{task.name}' does not load: {_reason(error)}: mend it in conf/") from error
    for _, leaf in _leaves(loaded):
        if leaf.config.num_fewshot is None:
            leaf.set_config(key="num_fewshot", value=0)
        leaf.set_fewshot_seed(seed=seed)
    return loaded


@cache
def _manager() -> TaskManager:
    """lm-eval's index of its tasks; reading it takes seconds."""
    return TaskManager()


def _leaves(loaded: Any) -> list[tuple[str, Any]]:
    return sorted(loaded["tasks"].items())


def _dataset(rows: Sequence[Mapping[str, Any]]) -> Any:
    def build(**_: Any) -> dict[str, datasets.Dataset]:
        plain = [{key: _column(value) for key, value in row.items()} for row in rows]
        return {"test": datasets.Dataset.from_list(plain)}

    return build


def _column(value: Any) -> Any:
    """{choice: label}, as TruthfulQA's own file has it, as the two lists that its lm-eval task reads."""
    return {"choices": list(value), "labels": list(value.values())} if isinstance(value, Mapping) else value


def _draw(n: int, limit: int | None, n_leaves: int, seed: int) -> list[int]:
    """Indices of the questions, in order; a group's limit is spread evenly over its tasks."""
    size = n if limit is None else min(n, -(-limit // n_leaves))
    return sorted(map(int, np.random.default_rng(seed).permutation(n)[:size]))


def _result(task: Task, loaded: Any, found: Any) -> Result:
    metric, _, key = task.metric.partition(",")
    key = key or "none"
    answers: dict[str, Answer] = {}
    for name, _leaf in _leaves(loaded):
        rows = [row for row in found["samples"][name] if row["filter"] == key]
        if not rows or metric not in rows[0]:
            known = sorted({f"{m},{row['filter']}" for row in found["samples"][name] for m in row["metrics"]})
            raise UserError(f"task '{task.name}' has no metric '{metric},{key}': use one of {', '.join(known)}")
        answers |= {f"{name}/{row['doc_id']}": _answer(metric, row) for row in rows}
    names = [name for name, _ in _leaves(loaded)]
    own = found["results"].get(names[0] if len(names) == 1 else task.base, {})
    return Result(answers, _number(own.get(f"{metric},{key}")), _number(own.get(f"{metric}_stderr,{key}")))


def _answer(metric: str, row: Mapping[str, Any]) -> Answer:
    """The likeliest choice, the generated text, or whether the one continuation is the greedy one."""
    responses = row["filtered_resps"]
    if isinstance(responses[0], str):
        return Answer(float(row[metric]), row["resps"][0][0])
    likelihoods = tuple(float(likelihood) for likelihood, _ in responses)
    answer = bool(responses[0][1]) if len(responses) == 1 else int(np.argmax(likelihoods))
    return Answer(float(row[metric]), answer, likelihoods)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


class _Harness(Base):
    """The loaded model, with one progress bar of ours in place of the harness's."""

    def __init__(self, model: ChatModel, batch_size: int, description: str, terminal: Any):
        super().__init__(pretrained=model.hf, tokenizer=model.tokenizer, batch_size=batch_size)
        self.description, self.terminal = description, terminal
        self.blocks, self.counter = model.sites.blocks, _Counter(lambda requests: None)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        with self._counted(requests):
            return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        with self._counted(requests):
            return super().generate_until(requests, disable_tqdm=True)

    @contextmanager
    def _counted(self, requests: list[Any]) -> Iterator[None]:
        with redirect_stderr(self.terminal), progress(self.description, len(requests), "request") as bar:
            self.counter = _Counter(bar)
            self.set_cache_hook(self.counter)
            yield

    def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
        with ticking(self.blocks, float(len(inps)), self.counter.ahead):
            return super()._model_call(inps, *args, **kwargs)

    def _model_generate(self, context: Any, max_length: int, *args: Any, **kwargs: Any) -> Any:
        # Of answers of full length every token is a part of its request.
        total = float(len(context) * max_length)
        with ticking_all(self.blocks, total, lambda tokens: self.counter.ahead(tokens / max_length)):
            return super()._model_generate(context, max_length, *args, **kwargs)


class _Counter(CacheHook):
    """Hears of every answered request, and before that of the passes that answer it: each counts once."""

    def __init__(self, advance: Advance):
        super().__init__(None)
        self.advance, self.early = advance, 0.0

    def ahead(self, requests: float) -> None:
        """Part of some requests has been run, which will be answered soon."""
        self.early += requests
        self.advance(requests)

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """A request is answered."""
        counted = min(1.0, self.early)
        self.early -= counted
        self.advance(1.0 - counted)


@contextmanager
def _quiet(offline: bool) -> Iterator[None]:
    """No chatter of the harness; offline, no library asks the hub."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            redirect_stderr(StringIO()),
            patch("huggingface_hub.constants.HF_HUB_OFFLINE", offline),
            patch("datasets.config.HF_HUB_OFFLINE", offline),
        ):
            yield
    finally:
        logger.setLevel(level)
