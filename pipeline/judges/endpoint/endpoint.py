"""Judges behind an OpenAI-compatible endpoint: every row ends with exactly one verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

from pipeline.disk import files
from pipeline.disk.steps import Steps
from pipeline.errors import UserError
from pipeline.judges.endpoint.client import Client, Endpoint, Question, Reply, Style
from pipeline.judges.formats.formats import Format, Prompt
from pipeline.judges.formats.reading import Answer
from pipeline.results.verdict import Verdict


class Row(NamedTuple):
    """A completion to judge."""

    id: str
    prompt: str
    response: str


@dataclass(frozen=True)
class Template:
    """How a judge is asked about a prompt and its response, and how its answers are read.

    `version` changes whenever `build` or `parse` do. `build` makes one or more questions: messages, or with
    Style.COMPLETION raw prompts. `parse` makes a verdict of the answers to them.
    """

    version: str
    build: Callable[[str, str], tuple[Question, ...]]
    parse: Callable[[Sequence[Answer]], Verdict]
    style: Style = Style.CHAT
    max_tokens: int = 16
    choices: tuple[str, ...] = ()


def template_of(form: Format) -> Template:
    """A format as questions to a server, which applies the chat template and puts the BOS before a raw prompt.

    Long completions are not clipped: only the server has the tokenizer.
    """

    def question(prompt: Prompt) -> Question:
        if isinstance(prompt, str):
            return prompt if form.add_special_tokens else prompt.removeprefix("<s>")
        return [{"role": role, "content": content} for role, content in prompt]

    return Template(
        version=files.content_hash([form.name, form.build("{prompt}", "{completion}"), form.threshold]),
        build=lambda prompt, response: tuple(map(question, form.build(prompt, response))),
        parse=form.verdict,
        style=Style.CHAT if form.is_chat else Style.COMPLETION,
        max_tokens=form.max_new_tokens,
        choices=form.choices,
    )


@dataclass(frozen=True)
class Judgement:
    """The verdict on one row; `failed` when the judge never answered, so that another run may ask again."""

    id: str
    label: str
    reason: str
    failed: bool = False
    score: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The same without the row."""
        return Verdict(self.label, self.reason, self.score)


def made_by(endpoint: Endpoint, template: Template) -> list[Any]:
    """What the verdicts on some rows depend on, beside the rows, to go on with those of an interrupted run."""
    asked = [template.version, template.style.value, template.max_tokens, template.choices]
    return [endpoint.base_url, endpoint.model, *asked]


def judge_rows(
    endpoint: Endpoint,
    template: Template,
    rows: Sequence[tuple[str, str, str]],
    kept: Steps,
    advance: Callable[[int], None],
) -> list[Judgement]:
    """Verdicts in the order of rows (id, prompt, response); those in `kept` are not asked for again.

    Each answer is kept as it comes, a failure never. Raises UserError for an id that comes twice,
    and as soon as the endpoint refuses the key or does not know the model; what is kept by then stays.
    """
    if len({row[0] for row in rows}) < len(rows):
        raise UserError("rows to judge share an id: give each its own")
    judged = {name: Judgement(name, **record) for name, record in kept.values.items()}
    waiting = [Row(*row) for row in rows if row[0] not in judged]
    if waiting:
        _ask(endpoint, template, waiting, kept, judged, advance)
    return [judged[row[0]] for row in rows]


def _ask(
    endpoint: Endpoint,
    template: Template,
    rows: Sequence[Row],
    kept: Steps,
    judged: dict[str, Judgement],
    advance: Callable[[int], None],
) -> None:
    # The pool's threads are daemons: neither an error nor an interrupt waits for requests that are under way.
    client = Client(endpoint, template.style, template.max_tokens, template.choices)
    with client, ThreadPool(endpoint.concurrency) as pool:
        for row, replies in pool.imap_unordered(lambda row: (row, _replies(client, template, row)), rows):
            if replies[-1].fatal:
                raise UserError(replies[-1].failure)
            judgement = judged[row.id] = _judgement(client, template, row, replies)
            if not judgement.failed:
                record = {"label": judgement.label, "reason": judgement.reason, "score": judgement.score}
                kept.keep({row.id: record})
            advance(1)


def _replies(client: Client, template: Template, row: Row) -> list[Reply]:
    """Answers to a row's questions, up to the first that has none."""
    replies = []
    for question in template.build(row.prompt, row.response):
        replies.append(client.ask(question))
        if replies[-1].answer is None:
            break
    return replies


def _judgement(client: Client, template: Template, row: Row, replies: Sequence[Reply]) -> Judgement:
    answers = [reply.answer for reply in replies if reply.answer is not None]
    if len(answers) < len(replies):
        return Judgement(row.id, "unknown", replies[-1].failure, failed=True)
    verdict = template.parse(answers)
    reason = client.shown(verdict.reason) or ("an empty answer" if verdict.label == "unknown" else "")
    return Judgement(row.id, verdict.label, reason, score=verdict.score)
