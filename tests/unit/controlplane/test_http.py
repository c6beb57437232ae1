"""Http against a server that answers scripted bytes on real sockets."""

from __future__ import annotations

import socket

import pytest
from support_http import HANG_UP, SILENCE, reply, served

from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.http import Http
from blocks_worker.errors import BillingModeMismatchError, ConfigurationError, HubUnavailableError, RpcError
from blocks_worker.protocol.tasks import SubmitTask


def test_one_connection_is_reused() -> None:
    """Calls one after another share a connection, and carry prefix, headers and token."""
    with served(reply(200), reply(404, b"no")) as (server, http):
        first = http.call("POST", "/x", body=b"{}", bearer="t")
        second = http.call("GET", "/y")

    assert (first.status, first.body, second.status, second.body) == (200, b"{}", 404, b"no")
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /base/x HTTP/1.1")
    assert b"Authorization: Bearer t" in server.requests[0]
    assert b"X-Extra: 1" in server.requests[1]


def test_dead_connection_is_replaced_once() -> None:
    """A kept-alive connection that dies before the answer is replaced, and the request repeated as it was."""
    with served(reply(200), HANG_UP, reply(200, b"[1]")) as (server, http):
        http.call("GET", "/x")
        answer = http.call("POST", "/x", body=b'{"id":1}')

    assert answer.body == b"[1]"
    assert server.requests[1] == server.requests[2]


def test_hung_up_twice_is_told() -> None:
    """A server that hangs up again and again is unavailable, and the request may have been carried out."""
    with served(HANG_UP, HANG_UP) as (server, http), pytest.raises(HubUnavailableError) as caught:
        http.call("POST", "/x", body=b"{}")

    assert caught.value.sent
    assert caught.value.url.startswith(server.url)
    assert "blocks-hub" in str(caught.value)


def test_silence_ends_at_the_timeout() -> None:
    """A server that says nothing is given up at the timeout; the request may have been carried out. [A3]"""
    with served(SILENCE) as (_, http), pytest.raises(HubUnavailableError, match="in time") as caught:
        http.call("GET", "/x", timeout=0.2)

    assert caught.value.sent


def test_half_an_answer_is_none() -> None:
    """An answer that ends before its length is not taken for a whole one."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"
    with served(half) as (_, http), pytest.raises(HubUnavailableError) as caught:
        http.call("GET", "/x")

    assert caught.value.sent


def test_nobody_listens() -> None:
    """A port where nobody listens is told at once, and nothing was sent."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # it does not listen, and nobody else gets its port
        http = Http(f"http://127.0.0.1:{taken.getsockname()[1]}")

        with pytest.raises(HubUnavailableError) as caught:
            http.call("GET", "/")

    assert not caught.value.sent
    http.close()


def test_redirects_are_not_followed() -> None:
    """A token goes to nobody but the server that it is for."""
    moved = b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with served(moved) as (_, http):
        assert http.call("GET", "/x", bearer="secret").status == 307


@pytest.mark.parametrize(
    "url", ["", "hub", "ftp://x", "http://", "http://user:pw@host", "file:///x", "http://[half", "http://h:99999"]
)
def test_wrong_address(url: str) -> None:
    """What is no address of a hub is refused before any network use."""
    with pytest.raises(ConfigurationError):
        Http(url)


class Tokens:
    """Be a bearer with a new token each time that one was refused."""

    def __init__(self, more: int) -> None:
        self.more = more
        self.refused: list[str] = []

    def access_token(self) -> str:
        """Return the token of now."""
        return f"t{len(self.refused)}"

    def on_unauthorized(self, refused: str) -> bool:
        """Go on to the next token."""
        self.refused.append(refused)
        return len(self.refused) <= self.more


def test_refused_token_is_renewed_once() -> None:
    """[3.3] A 401 renews the token and repeats the call with the new one."""
    page = b'{"tasks":[],"next":null}'
    with served(reply(401), reply(200, page)) as (server, http):
        tokens = Tokens(1)
        assert HubApi(http, tokens).list_tasks().tasks == []

    assert tokens.refused == ["t0"]
    assert b"Bearer t1" in server.requests[1]


def test_failed_renewal_lets_the_first_error_through() -> None:
    """[3.3] Where no other token is to be had, the refusal comes through with code and message."""
    problem = b'{"code":"TOKEN_INVALID","message":"expired","details":null}'
    with served(reply(401, problem)) as (_, http), pytest.raises(RpcError) as caught:
        HubApi(http, Tokens(0)).get_task("t")

    assert (caught.value.code, caught.value.status, str(caught.value)) == ("TOKEN_INVALID", 401, "[RPC] expired")


def test_items_stand_alone() -> None:
    """In a batch each item has its own status; a refused one raises its own error when asked."""
    taken = b'{"taskId":"t","state":"pending","ownerId":"o","orgId":"g","statusChannel":"c"}'
    mismatch = b'{"code":"BillingModeMismatch","message":"m","details":{"expected":"paid","got":"free"}}'
    body = b'[{"status":201,"body":%s},{"status":409,"body":%s},{"status":503,"body":{}}]' % (taken, mismatch)
    with served(reply(200, body)) as (_, http):
        first, second, third = HubApi(http).submit([SubmitTask(agent_name="echo")] * 3)

    assert first.value().task_id == "t"
    with pytest.raises(BillingModeMismatchError) as caught:
        second.value()
    assert (caught.value.expected, caught.value.got, caught.value.status) == ("paid", "free", 409)
    with pytest.raises(RpcError) as unknown:
        third.value()
    assert unknown.value.status == 503


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"tasks":3}', b"\xff"])
def test_strange_answers(body: bytes) -> None:
    """An answer of a shape that no hub sends is a typed error."""
    with served(reply(200, body)) as (_, http), pytest.raises(RpcError, match="not what was expected"):
        HubApi(http).list_tasks()
