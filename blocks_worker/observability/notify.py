"""Tell the service manager how the program stands: one datagram to the socket that systemd names."""

from __future__ import annotations

import logging
import socket

_logger = logging.getLogger(__name__)


class Notifier:
    """Send states such as ``READY=1``; without an address nothing is sent.

    Args:
        address: the value of NOTIFY_SOCKET: a path, or an abstract name that begins with ``@``.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address

    def send(self, *states: str) -> bool:
        """Send states in one datagram; tell whether somebody was there to take it.

        The manager's absence is no reason to stop a worker: it is told to the log only.
        """
        if not self._address or not self._address.startswith(("/", "@")):
            return False
        # An abstract name begins with a zero byte on the wire.
        where = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        text = "\n".join(state.replace("\n", " ") for state in states)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
                door.setblocking(False)
                door.sendto(text.encode(), where)
        except OSError as error:
            _logger.debug("notify_failed", extra={"error": str(error)})
            return False
        return True
