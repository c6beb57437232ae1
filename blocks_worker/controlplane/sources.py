"""Where access tokens come from when nobody has an API key: an endpoint of the user's, or a function."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict
from urllib.parse import SplitResult, urlsplit

from blocks_worker.concurrency import ServiceThread
from blocks_worker.controlplane.http import Http
from blocks_worker.errors import AuthRefreshFailedError, ConfigurationError, HubUnavailableError, InvalidMessageError
from blocks_worker.protocol.codec import decode

#: Seconds that a token lives of which nobody says how long.
USUAL_LIFE = 60.0
_KNOWN = frozenset({"url", "headers", "body"})
#: The first status that is no success.
_REDIRECTED = 300


@dataclass(frozen=True)
class TokenResult:
    """An access token, the seconds that it lives, and whose it is; without a user id the one known stays."""

    token: str
    expires_in: float = USUAL_LIFE
    user_id: str | None = None


class _Url(TypedDict):
    url: str


class TokenEndpointConfig(_Url, total=False):
    """Say how tokens are asked for: POST to `url`, with these headers (cookies too) and this body instead of ``{}``."""

    headers: Mapping[str, str]
    body: Any


TokenProvider = Callable[[], "TokenResult | Mapping[str, Any]"]


class TokenSource(Protocol):
    """Be where access tokens come from."""

    def fetch(self) -> TokenResult:
        """Return a new token; may raise anything."""

    def close(self) -> None:
        """Let go of connections."""


class EndpointSource:
    """Ask an address of the user's; nothing of ours goes there but a content type."""

    def __init__(self, endpoint: str | Mapping[str, Any], *, timeout: float) -> None:
        config = {"url": endpoint} if isinstance(endpoint, str) else endpoint
        _check_keys(config)
        parts = _address(config.get("url"))
        self._place = f"{parts.scheme}://{parts.netloc}"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = _merged(config.get("headers"))
        self._body = _body(config.get("body"))
        self._http = Http(self._place, timeout=timeout)

    def fetch(self) -> TokenResult:
        """Return the token that the endpoint answers.

        Raises:
            AuthRefreshFailedError: it did not answer, refused, or answered something else.
        """
        try:
            answer = self._http.post(self._path, self._body, self._headers)
        except HubUnavailableError as error:
            raise AuthRefreshFailedError(
                f"the token endpoint at {self._place} does not answer ({error.why})"
            ) from error
        if answer.status >= _REDIRECTED:
            raise AuthRefreshFailedError(f"the token endpoint at {self._place} answered with status {answer.status}")
        try:
            return token_result(decode(dict[str, Any], answer.body))
        except (InvalidMessageError, TypeError, ValueError) as error:
            raise AuthRefreshFailedError(f"the token endpoint at {self._place} gave no token: {error}") from error

    def close(self) -> None:
        """Close its connections."""
        self._http.close()


class FunctionSource:
    """Call a function of the user's, on a thread of its own: one that does not return holds nobody up for ever.

    One call at a time: who comes while one still runs waits for that one, and has what it returns.
    `timeout` is the longest wait in seconds. The thread is a daemon: nobody can end what it waits for.
    """

    def __init__(self, function: object, *, timeout: float) -> None:
        if not callable(function):
            raise ConfigurationError(f"token_provider is {type(function).__name__}, which cannot be called")
        self._function = function
        self._timeout = timeout
        self._lock = threading.Lock()
        self._call: Future[Any] | None = None

    def fetch(self) -> TokenResult:
        """Return the token that the function returns; what it raises comes through.

        Raises:
            AuthRefreshFailedError: it called `sys.exit`, or has not returned in time (`timed_out`).
        """
        call = self._under_way()
        if not wait([call], self._timeout).done:
            raise AuthRefreshFailedError(
                f"token_provider has not returned within {self._timeout:g} s, so there is no new token: give what it "
                "waits for a limit of its own, or the client a longer timeout",
                timed_out=True,
            )
        try:
            return token_result(call.result())
        except SystemExit as error:
            raise AuthRefreshFailedError("token_provider called sys.exit: let it raise an exception") from error

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def _under_way(self) -> Future[Any]:
        """Return the call that runs, or one that begins now."""
        with self._lock:
            call = self._call
            if call is not None:
                return call
            call = self._call = Future()
        # As if it were called here: it sees who asks, and its own variables of the context.
        context = copy_context()
        ServiceThread("token-provider", lambda: context.run(self._run, call), daemon=True).start()
        return call

    def _run(self, call: Future[Any]) -> None:
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the token is wanted
            self._done()
            call.set_exception(error)
        else:
            self._done()
            call.set_result(result)

    def _done(self) -> None:
        with self._lock:
            self._call = None


def token_result(given: object) -> TokenResult:
    """Return a token from what an endpoint or a function of the user's gave.

    Raises:
        TypeError: it is neither a `TokenResult` nor a dict.
        ValueError: what it holds is no token, or no life of one.
    """
    token, life, user_id = _parts(given)
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("'token' is missing, or no text that can stand in a header")
    if isinstance(life, bool) or not isinstance(life, (int, float)) or not _is_life(life):
        raise ValueError(f"'expiresIn' is a number of seconds, not {str(life)[:40]}")
    if user_id is not None and not isinstance(user_id, str):
        raise ValueError("'userId' is no text")
    return TokenResult(token, life, user_id)


def _is_life(seconds: float) -> bool:
    try:
        return math.isfinite(seconds)
    except OverflowError:  # a whole number that no float can hold
        return False


def _parts(given: object) -> tuple[Any, Any, Any]:
    """Return token, life and user id as they were given, whatever they are."""
    if isinstance(given, TokenResult):
        return given.token, given.expires_in, given.user_id
    if not isinstance(given, Mapping):
        raise TypeError(f"a token is a TokenResult or a dict with 'token', not {type(given).__name__}")
    life = given.get("expiresIn", given.get("expires_in"))
    return given.get("token"), USUAL_LIFE if life is None else life, given.get("userId", given.get("user_id"))


def _check_keys(config: object) -> None:
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"token_endpoint is a URL or a dict with 'url', not {type(config).__name__}")
    unknown = sorted(set(config) - _KNOWN)
    if unknown:
        raise ConfigurationError(
            f"token_endpoint has no {', '.join(map(repr, unknown))}: it knows url, headers (cookies too) and body"
        )


def _address(url: object) -> SplitResult:
    if not isinstance(url, str) or not url.strip():
        raise ConfigurationError("token_endpoint needs a url")
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ConfigurationError("the url of token_endpoint is not an http(s) address without user and password")
    return parts


def _merged(headers: object) -> dict[str, str]:
    """Return the user's headers, and a content type where he says none."""
    if headers is not None and not isinstance(headers, Mapping):
        raise ConfigurationError(f"the headers of token_endpoint are a dict, not {type(headers).__name__}")
    given = {str(name): str(value) for name, value in (headers or {}).items()}
    has_type = any(name.lower() == "content-type" for name in given)
    return given if has_type else {"Content-Type": "application/json", **given}


def _body(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    try:
        return json.dumps({} if body is None else body).encode()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the body of token_endpoint is not JSON: {error}") from error
