"""Connections: order, keep-alive, clients that misbehave."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from localnet import KEYS, Net, NetworkMaker
from support import wait_until

from blocks_worker.hub.network import http

ASK = b"GET /time/0 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def wire(net: Net) -> Iterator[socket.socket]:
    """Give a bare connection."""
    with socket.create_connection(("127.0.0.1", net.port), timeout=10) as connection:
        yield connection


def said(connection: socket.socket) -> bytes:
    """Return all that comes until the server ends the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            found += data
    return found


def until(connection: socket.socket, end: bytes, count: int = 1) -> bytes:
    """Return what comes until `end` came so many times."""
    found, seen = bytearray(), 0
    while count:
        data = connection.recv(65536)
        assert data, bytes(found)
        found += data
        while count and (place := found.find(end, seen)) >= 0:
            seen, count = place + len(end), count - 1
        seen = max(seen, len(found) - len(end) + 1)
    return bytes(found)


def test_requests_of_one_connection_are_answered_in_order(net: Net) -> None:
    """Requests sent without waiting get their answers in order, also behind a poll that is held."""
    cursor = net.cursor()
    poll = f"GET /v2/subscribe/sub-test/room/0?tt={cursor} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with wire(net) as connection:
        connection.sendall(ASK + poll + ASK * 50)
        wait_until(lambda: net.waiting() == 1, what="the poll is held")
        net.publish("room", "first")
        answers = until(connection, b"HTTP/1.1 200 OK", 52)

    assert b'"d":"first"' in answers.split(b"HTTP/1.1 200 OK")[2]


def test_request_in_single_bytes(net: Net) -> None:
    """A request may come in as many pieces as it has bytes."""
    body = b"2\r\n[1\r\n3;x=y\r\n,2]\r\n0\r\n\r\n"
    head = b"POST /publish/pub-test/sub-test/0/room/0 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    cursor = net.cursor()
    with wire(net) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head + body:
            connection.sendall(bytes([byte]))
        until(connection, b'"Sent"')

    assert net.poll("room", cursor)["m"][0]["d"] == [1, 2]


def test_client_that_wants_a_word_first(net: Net) -> None:
    """A client that expects our go gets it once, and its answer after the body."""
    head = (
        b"POST /publish/pub-test/sub-test/0/room/0 HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )
    with wire(net) as connection:
        connection.sendall(head)
        go = until(connection, b"\r\n\r\n")
        connection.sendall(b"123")
        answer = until(connection, b'"Sent"')

    assert go == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_connection_close_is_honoured(net: Net) -> None:
    """Who asks to close, and who speaks HTTP/1.0, gets the answer and the end."""
    for request in (ASK[:-2] + b"Connection: close\r\n\r\n", ASK.replace(b"1.1", b"1.0")):
        with wire(net) as connection:
            connection.sendall(request)
            assert said(connection).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"\x00\xff\x16\x03\x01junk\r\n\r\n", b"400"),
        (b"GET /time/0\r\n\r\n", b"400"),
        (b"GET time HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /\xc3\xbc HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /time/0 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /time/0 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /time/0 HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 300_000, b"413"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", b"415"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", b"400"),
        (b"BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"GET /time/0 HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /time/0 HTTP/1.1\r\nHost: localhost\r\n" + b"x" * 400_000, b"431"),
        (b"GET /" + b"a" * 205_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"G" * 1_000_000, b"414"),
    ],
)
def test_malformed_requests(net: Net, bad: bytes, status: bytes) -> None:
    """Each gets its status and the end of the connection; everybody else is served as before."""
    with wire(net) as connection:
        connection.sendall(bad)
        answer = said(connection)

    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert b"Content-Type: text/javascript" in answer
    assert b"Connection: close" in answer
    assert net.ask("/time/0").status == 200


def test_client_that_takes_no_answers(net: Net) -> None:
    """Who asks without reading is served no further, and others do not notice."""
    for _ in range(60):
        net.publish("room", "x" * 30_000)
    fetch = b"GET /v3/history/sub-key/sub-test/channel/room HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with wire(net) as connection:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(20_000):
                connection.send(fetch * 10)
        wait_until(lambda: any(each._blocked for each in net.network.connections), what="the server stops serving")

        assert net.ask("/time/0").status == 200

        connection.settimeout(10)
        until(connection, b"HTTP/1.1 200 OK", 12)


def test_stalled_and_idle_connections_are_cut(net: Net) -> None:
    """Half a request, and a long rest, end the connection; a held poll does not."""
    cursor = net.cursor()
    with wire(net) as stalled, wire(net) as idle:
        stalled.sendall(ASK[:10])
        idle.sendall(ASK)
        until(idle, b"]")
        held = net.held("room", cursor)
        wait_until(lambda: len(net.network.connections) == 3 and _begun(net) == 1, what="all are there")

        def pass_time(seconds: float) -> None:
            for each in list(net.network.connections):
                each.expire(net.loop.loop.time() + seconds)

        net.loop.call(pass_time, http.STALLED + 1)
        assert said(stalled) == b""
        net.loop.call(pass_time, http.IDLE + 1)
        assert said(idle) == b""
        net.publish("room", 1)
        assert len(held.result().json["m"]) == 1


def _begun(net: Net) -> int:
    return sum(each._reader.has_begun() for each in list(net.network.connections))


def test_a_request_that_drips_is_cut(net: Net) -> None:
    """A head has its seconds from its first byte and a whole request its own, however often a byte comes."""
    body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    with wire(net) as head, wire(net) as rest:
        before = net.loop.loop.time()
        for connection, first in ((head, ASK[:10]), (rest, body)):
            connection.sendall(first)
        wait_until(lambda: _begun(net) == 2, what="both have begun")
        after = net.loop.loop.time()

        def look(moment: float) -> None:
            for each in list(net.network.connections):
                each._touched = moment  # a byte came just now
                each.expire(moment)

        net.loop.call(look, before + http.HEAD - 1)
        assert len(net.network.connections) == 2
        net.loop.call(look, after + http.HEAD + 1)
        assert said(head) == b""
        assert len(net.network.connections) == 1
        net.loop.call(look, after + http.STALLED + 1)
        assert said(rest) == b""


def test_a_head_that_waited_for_an_answer_has_its_time_after_it(net: Net) -> None:
    """Half a request behind a poll that is held was not slow: its seconds count from when we read on."""
    cursor = net.cursor()
    poll = f"GET /v2/subscribe/sub-test/room/0?tt={cursor} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with wire(net) as connection:
        connection.sendall(poll + ASK[:10])
        wait_until(lambda: net.waiting() == len(net.network.connections) == 1, what="the poll is held")
        (each,) = net.network.connections
        net.loop.call(lambda: each.expire(net.loop.loop.time() + http.STALLED + 1))
        net.publish("room", "late")
        connection.sendall(ASK[10:])
        answers = until(connection, b"HTTP/1.1 200 OK", 2)

    assert b'"d":"late"' in answers


def test_connections_are_bounded(start_network: NetworkMaker) -> None:
    """One more than there may be takes the place of the one that rested longest: who asks at once is served. [K10]"""
    net = start_network(connections=2)
    with wire(net) as first, wire(net) as second:
        for connection in (first, second):
            connection.sendall(ASK)
            until(connection, b"]")
        with wire(net) as third:
            third.sendall(ASK)
            until(third, b"]")
            assert said(first) == b""
            second.sendall(ASK)
            until(second, b"]")
            wait_until(lambda: len(net.network.connections) == 2, what="the first is gone")


def test_a_held_poll_keeps_its_place(start_network: NetworkMaker) -> None:
    """However many come, who waits for a message goes on waiting; when all places are so, one more is closed. [K10]"""
    net = start_network(connections=2, hold=25.0)
    cursor = net.cursor()
    held = net.held("room", cursor)
    for _ in range(20):
        assert net.ask("/time/0").status == 200
    also = net.held("room", cursor)
    with wire(net) as third:
        assert said(third) == b""
    net.loop.call(net.network.publish, KEYS.subscribe_key, "room", b"1")

    assert [len(each.result().json["m"]) for each in (held, also)] == [1, 1]
