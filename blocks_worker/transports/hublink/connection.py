"""One WebSocket to a hub: the only importer of its library, whose errors become ours here."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import connect

from blocks_worker.protocol.link import LINK_PATH, REPLACED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

#: Seconds to reach a hub, and to part from it.
CONNECT_TIMEOUT = 5.0
CLOSE_TIMEOUT = 0.5
#: Largest frame that is read, in bytes.
MAX_FRAME = 64 * 1024 * 1024

_UNAUTHORIZED = 401
_REVOKED = 4401


class LinkDownError(Exception):
    """Say that a link is not there (any more), and why.

    Attributes:
        unauthorized: the hub did not take the token.
        replaced: whoever has this identity too has opened a newer link.
    """

    def __init__(self, reason: str, *, unauthorized: bool = False, replaced: bool = False) -> None:
        super().__init__(reason)
        self.unauthorized = unauthorized
        self.replaced = replaced


class LinkConnection:
    """Be one WebSocket: any thread sends, one thread receives."""

    def __init__(self, socket: ClientConnection, opened: ExitStack) -> None:
        self._socket = socket
        self._opened = opened

    @classmethod
    def open(cls, hub_url: str, bearer: str) -> LinkConnection:
        """Connect.

        Raises:
            LinkDownError: that is not possible now.
        """
        url = "ws" + hub_url.removeprefix("http") + LINK_PATH
        headers = {"Authorization": f"Bearer {bearer}"}
        with _translated():
            opened = ExitStack()
            # The hub speaks at least each quarter of a minute, so nobody needs to ping: that would be one more thread.
            socket = opened.enter_context(
                connect(
                    url,
                    compression=None,
                    additional_headers=headers,
                    user_agent_header="blocks-worker",
                    proxy=None,
                    open_timeout=CONNECT_TIMEOUT,
                    close_timeout=CLOSE_TIMEOUT,
                    ping_interval=None,
                    max_size=MAX_FRAME,
                )
            )
        return cls(socket, opened)

    def send(self, frame: bytes) -> None:
        """Send one frame.

        Raises:
            LinkDownError: the connection is over.
        """
        with _translated():
            self._socket.send(frame)

    def receive(self, timeout: float) -> bytes:
        """Return the next frame.

        Raises:
            LinkDownError: the connection is over, or nothing came in time.
        """
        with _translated():
            return self._socket.recv(timeout, decode=False)

    def close(self) -> None:
        """End the connection; whoever receives is woken."""
        with _translated(quiet=True):
            self._opened.close()


@contextmanager
def _translated(*, quiet: bool = False) -> Iterator[None]:
    """Turn what the library raises into ours; `quiet`: into nothing."""
    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        failed = LinkDownError(f"the hub answered {status}", unauthorized=status == _UNAUTHORIZED)
        cause: Exception = error
    except ConnectionClosed as error:
        code = None if error.rcvd is None else error.rcvd.code
        reason = f"it was closed ({code})"
        failed, cause = LinkDownError(reason, unauthorized=code == _REVOKED, replaced=code == REPLACED), error
    except (InvalidHandshake, InvalidURI, OSError, TimeoutError) as error:
        failed, cause = LinkDownError(str(error) or type(error).__name__), error
    else:
        return
    if not quiet:
        raise failed from cause
