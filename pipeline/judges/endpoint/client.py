"""One question to an OpenAI-compatible server: the text that it answers, or why there is none."""

import enum
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import openai

from pipeline.errors import UserError
from pipeline.judges.formats.reading import Answer
from pipeline.sources.bounded_http import Bounds, bounded

Question = Sequence[Mapping[str, Any]] | str

LONGEST, LARGEST = 10, 1 << 24  # of an answer: times `timeout_s`, and bytes
SHOWN = 200  # characters of an answer that a reason repeats
TOP = 20  # most likely tokens that are asked for where choices are weighed: the most that the API gives
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
# Statuses that no other row and no later try can mend, and what the user can.
FATAL = {
    401: "refuses the key: set {variable} to a valid one",
    403: "does not allow this: ask for access, or set {variable} to a key that has it",
    404: "does not know it: check the model's name, and the path in base_url (most servers want /v1)",
}


class Style(enum.Enum):
    """The API through which a judge is asked."""

    CHAT = "chat"  # messages, to which the server applies the model's template
    COMPLETION = "completion"  # a raw prompt, for a classifier whose template is ours to apply


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible server, and how hard it may be asked. Holds no key.

    `key_variable` names the environment variable with the API key, empty where the server needs none. `timeout_s`
    is the longest silence of a request, which may take ten times as long; `requests_per_minute` counts retries too,
    and 0 sets no limit.
    """

    base_url: str
    model: str
    key_variable: str
    timeout_s: float
    max_retries: int
    requests_per_minute: float
    concurrency: int

    def __post_init__(self):
        """Raises UserError for values that cannot work; what may be a secret is not repeated."""
        if not _is_plain(self.base_url):
            raise UserError("base_url of an endpoint is http(s)://host/path, without password or query")
        if self.key_variable and not VARIABLE.fullmatch(self.key_variable):
            raise UserError("key_variable of an endpoint is the name of an environment variable (A-Z, 0-9, _)")
        if self.timeout_s <= 0 or self.max_retries < 0 or self.requests_per_minute < 0 or self.concurrency < 1:
            raise UserError(f"{self.base_url}: an endpoint needs timeout_s > 0, concurrency >= 1, the rest >= 0")

    def key(self) -> str:
        """The API key, empty where none is needed. Raises UserError when its variable holds none."""
        key = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        if self.key_variable and not key:
            raise UserError(f"{self.base_url} needs a key: set the environment variable {self.key_variable}")
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UserError(f"{self.key_variable} holds no key: spaces, line breaks and non-ASCII cannot be sent")
        return key


@dataclass(frozen=True)
class Reply:
    """An answer, or None and why there is none; `fatal` when asking on is of no use."""

    answer: Answer | None
    failure: str = ""
    fatal: bool = False


class Pace:
    """Lets requests through one by one, `60 / per_minute` seconds apart."""

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """0 is no limit."""
        self.interval = 60 / per_minute if per_minute else 0.0
        self.clock, self.sleep = clock, sleep
        self.lock = threading.Lock()
        self.free = clock()

    def wait(self) -> None:
        """Return when the caller's turn has come."""
        with self.lock:
            now = self.clock()
            turn = max(now, self.free)
            self.free = turn + self.interval
        if turn > now:
            self.sleep(turn - now)


class Client:
    """Asks one endpoint, from any number of threads. Retries, backoff and Retry-After are the openai client's."""

    def __init__(self, endpoint: Endpoint, style: Style, max_tokens: int, choices: Sequence[str] = ()):
        """With `choices`, an answer is the probability of each as the next token. Raises UserError without the key."""
        self.endpoint, self.style, self.choices = endpoint, style, choices
        self.max_tokens = 1 if choices else max_tokens
        self._key = endpoint.key()
        self._refusal: Reply | None = None
        pace = Pace(endpoint.requests_per_minute)
        # Said outright, so that no key or organisation that the environment holds for another server goes along.
        self._headers = {
            "Authorization": f"Bearer {self._key}" if self._key else openai.omit,
            "OpenAI-Organization": openai.omit,
            "OpenAI-Project": openai.omit,
        }
        self._client = openai.OpenAI(
            api_key=self._key or "none",
            base_url=endpoint.base_url,
            timeout=endpoint.timeout_s,
            max_retries=endpoint.max_retries,
            # A hook sees every request, retries too.
            http_client=bounded(
                openai.DefaultHttpxClient(event_hooks={"request": [lambda _: pace.wait()]}),
                Bounds(seconds=LONGEST * endpoint.timeout_s, most=LARGEST),
            ),
        )

    def __enter__(self) -> Self:
        """Ready to ask."""
        return self

    def __exit__(self, *_: object) -> None:
        """No request is sent from here on."""
        self._client.close()

    def ask(self, question: Question) -> Reply:
        """The answer to one question. Never raises for what the network or the server do.

        After a fatal reply nothing more is asked, and every other reply is the same.
        """
        if self._refusal:
            return self._refusal
        try:
            body = self._send(question)
        except openai.APIStatusError as error:
            return self._refused(error)
        except openai.APITimeoutError:
            return Reply(None, f"no answer: nothing for {self.endpoint.timeout_s:g} s")
        except openai.APIConnectionError as error:
            return Reply(None, f"no answer: no connection ({type(error.__cause__).__name__})")
        except UnicodeEncodeError:
            return Reply(None, "no answer: the question is not Unicode text and cannot be sent")
        return _read(body, self.style, self.choices)

    def shown(self, text: str) -> str:
        """What a server said as one short printable line, without the key."""
        text = text.replace(self._key, "[key]") if self._key else text
        line = repr(text.strip())[1:-1]
        return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"

    def _send(self, question: Question) -> str:
        """The body of the server's response. Raises openai's errors."""
        assert isinstance(question, str) == (self.style is Style.COMPLETION), (type(question), self.style)
        chat = self.style is Style.CHAT
        api = self._client.chat.completions if chat else self._client.completions
        options: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages" if chat else "prompt": question,
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "extra_headers": self._headers,
        }
        if self.choices:
            options |= {"logprobs": True, "top_logprobs": TOP} if chat else {"logprobs": TOP}
        # The raw response: the client's own parser takes any JSON for an answer.
        return api.with_raw_response.create(**options).text

    def _refused(self, error: openai.APIStatusError) -> Reply:
        status, endpoint = error.status_code, self.endpoint
        if status in FATAL:
            remedy = FATAL[status].format(variable=endpoint.key_variable or "key_variable")
            line = f"{endpoint.base_url}, asked for {endpoint.model}, {remedy} ({status})"
            self._refusal = Reply(None, line, fatal=True)
            return self._refusal
        said = error.body.get("message") if isinstance(error.body, dict) else None
        words = f": {self.shown(said)}" if isinstance(said, str) else ""
        return Reply(None, f"no answer: the server answered {status}{words}")


def _is_plain(base_url: str) -> bool:
    """Whether a URL is http(s), and free of the parts that may hold a secret."""
    try:
        url = urlsplit(base_url)
        secretive = "@" in url.netloc or bool(url.query or url.fragment)
        return base_url.isprintable() and url.scheme in ("http", "https") and bool(url.hostname) and not secretive
    except ValueError:
        return False


def _read(body: str, style: Style, choices: Sequence[str]) -> Reply:
    """The answer in the body of a response; `null` is an answer without words."""
    try:
        [choice, *_] = json.loads(body)["choices"]
        if choices:
            return Reply(_probabilities(choice["logprobs"], style, choices))
        text = choice["message"]["content"] if style is Style.CHAT else choice["text"]
    except json.JSONDecodeError:
        return Reply(None, "no answer: the response is not JSON")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
        what = "probabilities of tokens" if choices else "a text"
        return Reply(None, f"no answer: the response holds no choice with {what}")
    if not isinstance(text, str | None):
        return Reply(None, "no answer: the response holds no choice with a text")
    return Reply(text or "")


def _probabilities(logprobs: Any, style: Style, choices: Sequence[str]) -> tuple[float, ...]:
    """Probability of each choice as the first token, 0 for one that is not among the most likely."""
    first = logprobs["content"][0]["top_logprobs"] if style is Style.CHAT else logprobs["top_logprobs"][0].items()
    pairs = [(row["token"], row["logprob"]) for row in first] if style is Style.CHAT else list(first)
    return tuple(sum(math.exp(value) for token, value in pairs if token == choice) for choice in choices)
