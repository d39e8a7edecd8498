"""What is asked again, and when: one notion for downloads and for judges."""

import time
from email.utils import formatdate

import httpx2
import pytest
from tenacity import Future, RetryCallState, Retrying

from pipeline.sources import https, retries


def answer(status: int = 503, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("0.5", 0.5), ("-3", 0), ("nan", 0), ("inf", float("inf")), ("soon", 0), ("", 0)]
)
def test_a_pause_is_a_number_of_seconds(value, seconds):
    assert retries.asked_pause({"Retry-After": value}) == seconds


def test_a_pause_may_end_at_a_date():
    assert retries.asked_pause({"Retry-After": formatdate(time.time() + 50, usegmt=True)}) == pytest.approx(50, abs=2)
    assert retries.asked_pause({"Retry-After": formatdate(time.time() - 50, usegmt=True)}) == 0
    assert retries.asked_pause({}) == 0


@pytest.mark.parametrize(
    ("response", "passes"),
    [
        (answer(429), True),
        (answer(408), True),
        (answer(500), True),
        (answer(529), True),
        (answer(400), False),
        (answer(404), False),
        (answer(416), False),
        (answer(429, Retry_After="119"), True),
        (answer(429, Retry_After="121"), False),
        (answer(429, x_should_retry="false"), False),
        (answer(400, x_should_retry="true"), True),
        (answer(400, x_should_retry="perhaps"), False),
    ],
)
def test_what_is_asked_again(response, passes):
    assert retries.may_pass(response) == passes


def waited(error: Exception, attempt: int) -> float:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number, state.outcome = attempt, Future(attempt)
    state.outcome.set_exception(error)
    return retries.wait(state)


def test_the_server_says_how_long_and_else_it_is_longer_each_time_to_a_limit():
    assert waited(https.TryAgain("busy", answer(429, Retry_After="33")), 1) == 33
    silent = [https.TryAgain("busy", answer(429)), https.TryAgain("no connection"), ConnectionError()]
    for error in silent:
        assert 0.5 <= waited(error, 1) <= 0.75
        assert 4 <= waited(error, 4) <= 4.25
        assert waited(error, 40) == 8
