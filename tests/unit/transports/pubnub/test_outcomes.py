import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from canned import Canned, reply
from pubnub_pair import Tokens

from blocks_worker.transports.pubnub.client import NetworkClient, PubNubSettings
from blocks_worker.transports.pubnub.outcomes import CallFailedError, Kind, classify

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDLERS = [pytest.param(True, id="own"), pytest.param(False, id="sdk")]
NAMES = json.dumps({"message": "Forbidden", "payload": {"channels": ["b"]}, "error": True, "status": 403}).encode()

#: What a server may answer, and what a publish, a poll and a history page make of it; None is success.
TABLE = {
    "400": (reply(400, b'[0,"Invalid Key","1"]'), Kind.REFUSED, Kind.REFUSED, Kind.REFUSED),
    "403": (reply(403, NAMES), Kind.DENIED, Kind.DENIED, Kind.DENIED),
    "404": (reply(404, b"{}"), Kind.MISPLACED, Kind.MISPLACED, Kind.MISPLACED),
    "405": (reply(405, b"no"), Kind.MISPLACED, Kind.MISPLACED, Kind.MISPLACED),
    "413": (reply(413, b"{}"), Kind.TOO_LARGE, Kind.TOO_LARGE, Kind.TOO_LARGE),
    "414": (reply(414, b"{}"), Kind.TOO_LARGE, Kind.TOO_LARGE, Kind.TOO_LARGE),
    "429": (reply(429, b"{}", extra="Retry-After: 3\r\n"), Kind.THROTTLED, Kind.THROTTLED, Kind.THROTTLED),
    "500": (reply(500, b"oops"), Kind.SERVER, Kind.SERVER, Kind.SERVER),
    "503": (reply(503, b""), Kind.SERVER, Kind.SERVER, Kind.SERVER),
    "closed": (b"", Kind.BROKEN, Kind.BROKEN, Kind.BROKEN),
    "garbage": (b"\x00\x01 this is not http\r\n\r\n", Kind.BROKEN, Kind.BROKEN, Kind.BROKEN),
    "truncated": (reply(200, b'[1,"Sent","17"]')[:-4], Kind.BROKEN, Kind.BROKEN, Kind.BROKEN),
    "html": (reply(200, b"<html>", kind="text/html"), Kind.BAD_REPLY, Kind.BAD_REPLY, Kind.BAD_REPLY),
    "empty": (reply(200, b""), Kind.BAD_REPLY, Kind.BAD_REPLY, Kind.BAD_REPLY),
    "204": (b"HTTP/1.1 204 X\r\nContent-Type: text/javascript\r\n\r\n", Kind.BAD_REPLY, Kind.BAD_REPLY, Kind.BAD_REPLY),
    "object": (reply(200, b"{}"), Kind.BAD_REPLY, None, Kind.BAD_REPLY),
    "list": (reply(200, b"[]"), Kind.BAD_REPLY, None, Kind.BAD_REPLY),
    "text": (reply(200, b'"s"'), Kind.BAD_REPLY, None, Kind.BAD_REPLY),
    "number": (reply(200, b"5"), Kind.BAD_REPLY, None, Kind.BAD_REPLY),
    "null": (reply(200, b"null"), Kind.BAD_REPLY, Kind.BAD_REPLY, Kind.BAD_REPLY),
    "refused with 200": (reply(200, b'[0,"no","17"]'), Kind.REFUSED, None, Kind.BAD_REPLY),
    "row without position": (
        reply(200, b'{"channels":{"c":[{"message":1}]}}'),
        Kind.BAD_REPLY,
        None,
        Kind.BAD_REPLY,
    ),
    "deep": (reply(200, b"[" * 100_000 + b"]" * 100_000), Kind.BAD_REPLY, Kind.BAD_REPLY, Kind.BAD_REPLY),
    "long number": (reply(200, b"[" + b"9" * 5000 + b"]"), Kind.BAD_REPLY, Kind.BAD_REPLY, Kind.BAD_REPLY),
}
OTHER = {
    "redirect": (reply(302, b"", extra="Location: /again\r\nConnection: close\r\n"), Kind.MISPLACED),
}


@contextmanager
def client(port: int, *, own: bool, polls: bool) -> "Iterator[NetworkClient]":
    """Give a client of whatever answers at this port."""
    settings = PubNubSettings(f"http://127.0.0.1:{port}", "pub", "sub", "user", hold=1.0, own_handler=own)
    made = NetworkClient(settings, Tokens("the-token"), polls=polls)
    try:
        yield made
    finally:
        made.stop()


def outcome(port: int, verb: str, *, own: bool) -> CallFailedError | None:
    """Make one call and return how it failed."""
    with client(port, own=own, polls=verb == "poll") as network:
        calls = {
            "publish": lambda: network.publish("c", {"v": 1}),
            "poll": lambda: network.poll(["a", "b"], 17, 1),
            "page": lambda: network.page("c", 1, 20),
        }
        try:
            calls[verb]()
        except CallFailedError as error:
            return error
        return None


@pytest.mark.parametrize("own", HANDLERS)
@pytest.mark.parametrize("name", TABLE)
def test_every_answer_has_its_outcome_with_both_handlers(name: str, own: bool) -> None:
    """What a server answers means the same to a publish, a poll and a page, whichever handler sent it."""
    answer, *expected = TABLE[name]
    with Canned(answer) as server:
        failed = [outcome(server.port, verb, own=own) for verb in ("publish", "poll", "page")]

    assert [error and error.kind for error in failed] == expected
    assert not any("the-token" in repr(error) for error in failed)


@pytest.mark.parametrize("own", HANDLERS)
@pytest.mark.parametrize("verb", ["publish", "poll"])
def test_a_reset_and_a_redirect_have_theirs(own: bool, verb: str) -> None:
    """A reset may have come after the message was taken; a redirect is not our origin."""
    with Canned(rst=True) as server:
        failed = outcome(server.port, verb, own=own)
    assert failed is not None
    assert failed.kind is Kind.BROKEN

    answer, kind = OTHER["redirect"]
    with Canned(answer) as server:
        failed = outcome(server.port, verb, own=own)
    assert failed is not None
    assert failed.kind is kind


@pytest.mark.parametrize("own", HANDLERS)
def test_nobody_there_is_known_as_not_sent(own: bool) -> None:
    """A refused connection took nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # it does not listen, and nobody else gets its port
        failed = outcome(taken.getsockname()[1], "publish", own=own)

    assert failed is not None
    assert failed.kind is Kind.UNREACHABLE


@pytest.mark.parametrize("own", HANDLERS)
def test_a_refusal_tells_which_channels(own: bool) -> None:
    """The body's names are kept for going on with the rest."""
    with Canned(reply(403, NAMES)) as server:
        failed = outcome(server.port, "poll", own=own)

    assert failed is not None
    assert (failed.channels, failed.status) == (("b",), 403)


@pytest.mark.parametrize("own", HANDLERS)
def test_both_handlers_send_the_same_request(own: bool) -> None:
    """Method, address, and body are what the SDK made them, whoever carries them."""
    with Canned(reply(200, b'[1,"Sent","17"]')) as server, client(server.port, own=own, polls=False) as network:
        assert network.publish("a b,c/ä", {"x": 'ä "q"'}) == 17
        request = server.requests[0]

    line, _, rest = request.partition(b"\r\n")
    assert line.startswith(b"POST /publish/pub/sub/0/a%20b%2Cc%2F%C3%A4/0?")
    assert b"auth=the-token" in line
    assert b"uuid=user" in line
    assert rest.endswith(b'{"x": "\\u00e4 \\"q\\""}')


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (json.JSONDecodeError("x", "y", 0), Kind.BAD_REPLY),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "y"), Kind.BAD_REPLY),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "y"), Kind.BUG),
        (KeyError("x"), Kind.BAD_REPLY),
        (RecursionError(), Kind.BAD_REPLY),
        (AssertionError(), Kind.BAD_REPLY),
        (type("InvalidURL", (Exception,), {})(), Kind.TOO_LARGE),
    ],
)
def test_what_is_no_exception_of_the_sdk_is_known_too(error: Exception, kind: Kind) -> None:
    """The SDK lets out whatever a reply makes of its code."""
    assert classify(error).kind is kind


def test_a_call_without_its_arguments_is_a_bug_of_ours() -> None:
    """The SDK's own checks never say that the network is in trouble."""
    with client(1, own=True, polls=True) as network, pytest.raises(CallFailedError) as caught:
        network.poll([], 0, 0)

    assert caught.value.kind is Kind.BUG


def test_the_text_of_a_failure_is_short() -> None:
    """What goes to the log is bounded, whatever the server sent."""
    with Canned(reply(400, b"x" * 5000)) as server:
        failed: Any = outcome(server.port, "publish", own=True)

    assert len(str(failed)) < 300
