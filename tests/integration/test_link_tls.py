"""A link that is encrypted, as far as that makes it another: what comes is no whole record, and may not be read raw."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from support_tls import certificate
from websockets.http11 import Request
from websockets.server import ServerProtocol

from blocks_worker.transports.hublink.connection import LinkConnection, LinkDownError

if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Speak = Callable[[ssl.SSLSocket, ServerProtocol], None]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Give what ends with the test."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> Callable[[Speak], str]:
    """Return what runs the first moments of an encrypted hub, on a thread for one link, and returns its address."""
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def run(speak: Speak) -> str:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            accepted, _ = listening.accept()
            with suppress(OSError), context.wrap_socket(accepted, server_side=True) as encrypted:
                protocol = ServerProtocol()
                protocol.receive_data(encrypted.recv(65536))
                speak(encrypted, protocol)

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        return f"https://127.0.0.1:{listening.getsockname()[1]}"

    return run


def _say(encrypted: ssl.SSLSocket, protocol: ServerProtocol) -> None:
    for data in protocol.data_to_send():
        encrypted.sendall(data)


def _accept(encrypted: ssl.SSLSocket, protocol: ServerProtocol) -> None:
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    _say(encrypted, protocol)


def _received(link: LinkConnection) -> list[bytes]:
    """Return the frames that come until the link is over, or nothing came for three seconds."""
    frames = []
    with suppress(LinkDownError):
        while True:
            frames.append(link.receive(3.0))
    return frames


def test_a_hub_that_says_nothing_is_given_up(
    hub: Callable[[Speak], str], monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> None:
    """What belongs to the encryption alone comes, and no answer: that is no reason to wait for ever. [A3]"""
    monkeypatch.setattr("blocks_worker.transports.hublink.connection.CONNECT_TIMEOUT", 1.0)
    over = threading.Event()
    address = hub(lambda _encrypted, _protocol: over.wait(60) and None)
    stack.callback(over.set)

    with pytest.raises(LinkDownError, match="in time"):
        LinkConnection.open(address, "token")


def test_who_ends_a_link_has_nobody_read_what_is_encrypted_as_a_frame(hub: Callable[[Speak], str]) -> None:
    """Whatever was under way then, each frame that is handed out is one that was sent."""
    content = b"y" * 100_000

    def pour(encrypted: ssl.SSLSocket, protocol: ServerProtocol) -> None:
        _accept(encrypted, protocol)
        while True:
            protocol.send_binary(content)
            _say(encrypted, protocol)

    for turn in range(20):
        link = LinkConnection.open(hub(pour), "token")
        ending = threading.Timer(0.02 + turn * 0.003, link.end)
        ending.start()
        received = _received(link)
        assert received == [content] * len(received)
        ending.join()
        link.close()


class _Polled:
    """Poll, and tell when there is nothing to read: all that came was taken in, and more is waited for."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self.waits = threading.Event()

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        """Wait as long as the poll does."""
        if not self._poll.poll(0):
            self.waits.set()
        return self._poll.poll(milliseconds)


def test_half_a_record_holds_up_nobody(hub: Callable[[Speak], str], stack: ExitStack) -> None:
    """While the rest of it is waited for others may speak, and the wait has its end."""
    over, said = threading.Event(), threading.Event()

    def speak(encrypted: ssl.SSLSocket, protocol: ServerProtocol) -> None:
        _accept(encrypted, protocol)
        # The header of a record whose content never comes, past the encryption.
        socket.socket.send(encrypted, b"\x17\x03\x03\x40\x00half")
        said.set()
        over.wait(60)

    link = LinkConnection.open(hub(speak), "token")
    stack.callback(link.close)
    stack.callback(over.set)
    assert said.wait(20)
    began = time.monotonic()
    polled = _Polled(link._poll)
    link._poll = polled  # type: ignore[assignment]
    receiving = threading.Thread(target=_received, args=(link,))
    receiving.start()
    assert polled.waits.wait(20)
    link.send(b"[]")
    assert receiving.is_alive()
    receiving.join(30)
    assert time.monotonic() - began < 30
