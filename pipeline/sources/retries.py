"""When a server that failed is asked again, and how long after: the same for downloads and for judges."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx2
from tenacity import RetryCallState, wait_exponential_jitter

BUSY = {408, 409, 425, 429}  # and all from 500 on: the server is busy or failing, not refusing
BACKOFF = wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.25)
LONGEST_S = 120.0  # a server that asks for a longer pause is not waited for


def may_pass(response: httpx2.Response) -> bool:
    """Whether a failure may be another answer when asked again: its status, and what the server says of it."""
    if asked_pause(response.headers) > LONGEST_S:
        return False
    said = response.headers.get("x-should-retry")  # of OpenAI's servers
    return said == "true" if said in ("true", "false") else response.status_code in BUSY or response.status_code >= 500


def wait(state: RetryCallState) -> float:
    """Seconds until the next try: what the `response` of the error asks for, else a little longer each time."""
    response = getattr(state.outcome and state.outcome.exception(), "response", None)
    asked = 0.0 if response is None else asked_pause(response.headers)
    return asked or BACKOFF(state)


def asked_pause(headers: Mapping[str, str]) -> float:
    """Seconds that Retry-After asks for, as a number or a date; 0 where it asks for none."""
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
