"""What endpoints and functions of users give, and what of it is a token."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

import pytest
from support import wait_until
from support_tokens import token_endpoint

from blocks_worker.controlplane.sources import EndpointSource, FunctionSource, TokenResult, token_result
from blocks_worker.errors import AuthRefreshFailedError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (TokenResult("t", 5, "u"), TokenResult("t", 5, "u")),
        ({"token": "t", "expiresIn": 5, "userId": "u"}, TokenResult("t", 5, "u")),
        ({"token": "t", "expires_in": 5.5, "user_id": "u"}, TokenResult("t", 5.5, "u")),
        ({"token": "t"}, TokenResult("t", 60.0, None)),
        ({"token": "t", "expiresIn": None, "more": 1}, TokenResult("t", 60.0, None)),
    ],
)
def test_what_is_a_token(given: Any, expected: TokenResult) -> None:
    """[3.3] A result or a dict; without a life it is 60 seconds."""
    assert token_result(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        None,
        "t",
        5,
        {},
        {"token": ""},
        {"token": None},
        {"token": "a b"},
        {"token": "a\r\nX: y"},
        {"token": "ü"},
        {"token": "t", "expiresIn": "60"},
        {"token": "t", "expiresIn": True},
        {"token": "t", "expiresIn": float("nan")},
        {"token": "t", "expiresIn": 10**399},
        {"token": "t", "userId": 5},
        TokenResult(None, 5),  # type: ignore[arg-type]
    ],
)
def test_what_is_none(given: Any) -> None:
    """What cannot stand in a header, or lives no time that is one, is refused."""
    with pytest.raises((TypeError, ValueError)):
        token_result(given)


def test_an_endpoint_that_answers_nonsense() -> None:
    """[3.3] No JSON object, no token; the message names the place without its query."""
    with token_endpoint(dict) as endpoint:
        endpoint.give = lambda: ["t"]  # type: ignore[assignment, return-value]
        source = EndpointSource(endpoint.url, timeout=5)
        with pytest.raises(AuthRefreshFailedError, match="gave no token") as caught:
            source.fetch()
        source.close()

    assert "for=me" not in str(caught.value)


def test_the_body_may_be_text_or_bytes() -> None:
    """A form is sent as it is."""
    with token_endpoint(lambda: {"token": "t"}) as endpoint:
        for body in ("a=1", b"a=1"):
            source = EndpointSource({"url": endpoint.url, "body": body}, timeout=5)
            assert source.fetch() == TokenResult("t")
            source.close()
        assert [asked[2] for asked in endpoint.asked] == [b"a=1", b"a=1"]


def test_a_function_that_ends_the_program() -> None:
    """[R-32] `sys.exit` in a user's function ends no thread of ours."""

    def leave() -> TokenResult:
        raise SystemExit(3)

    with pytest.raises(AuthRefreshFailedError, match=r"sys\.exit"):
        FunctionSource(leave, timeout=5).fetch()


def test_a_function_that_does_not_return_holds_nobody_up() -> None:
    """[R-25] It is told as out of time, is not called again beside itself, and may answer later."""
    go, calls = threading.Event(), []

    def block() -> TokenResult:
        calls.append(threading.current_thread().name)
        go.wait(60)
        return TokenResult("late")

    source = FunctionSource(block, timeout=0.02)
    for _ in range(2):
        with pytest.raises(AuthRefreshFailedError, match=r"not returned within 0\.02 s.*a limit of its own") as caught:
            source.fetch()
        assert caught.value.timed_out
    wait_until(lambda: calls, what="the call begins")
    go.set()

    def late() -> TokenResult | None:
        try:
            return source.fetch()
        except AuthRefreshFailedError:
            return None

    assert wait_until(late, what="the late answer") == TokenResult("late")
    assert calls == ["token-provider"]


def test_a_function_sees_the_context_of_its_caller() -> None:
    """What it raises comes through unchanged, and variables of the context are those of who wants a token."""
    wanted: ContextVar[str] = ContextVar("wanted")
    wanted.set("mine")
    error = TimeoutError("the user's own")

    def fail() -> TokenResult:
        raise error

    assert FunctionSource(lambda: TokenResult(wanted.get()), timeout=5).fetch() == TokenResult("mine")
    with pytest.raises(TimeoutError) as caught:
        FunctionSource(fail, timeout=5).fetch()
    assert caught.value is error
