"""What an exception of the SDK means for the caller: one table, so that none of them leaves this folder.

Everything that ``.sync()`` of the SDK was seen to raise is here, whichever request handler is below it.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from pubnub.exceptions import PubNubException

#: Characters of a foreign text that are kept for the log.
DETAIL = 200


class Kind(Enum):
    """What happened to a call."""

    REFUSED = "refused"
    DENIED = "denied"
    MISPLACED = "misplaced"
    TOO_LARGE = "too_large"
    THROTTLED = "throttled"
    SERVER = "server_error"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    BAD_REPLY = "bad_reply"
    BUG = "bug"


#: The same message may be sent again, with the same name.
REPEATABLE = frozenset(
    {Kind.THROTTLED, Kind.SERVER, Kind.UNREACHABLE, Kind.TIMEOUT, Kind.BROKEN, Kind.BAD_REPLY},
)
#: The network may have accepted the message although it did not say so.
AMBIGUOUS = frozenset({Kind.SERVER, Kind.TIMEOUT, Kind.BROKEN, Kind.BAD_REPLY})

_BY_STATUS = {
    403: Kind.DENIED,
    404: Kind.MISPLACED,
    405: Kind.MISPLACED,
    410: Kind.MISPLACED,
    413: Kind.TOO_LARGE,
    414: Kind.TOO_LARGE,
    429: Kind.THROTTLED,
}
_BY_TEXT = (
    ("Connection Error", Kind.UNREACHABLE),
    ("Client Timeout", Kind.TIMEOUT),
    ("Unknown Error", Kind.BROKEN),
    ("Too many redirects", Kind.MISPLACED),
)


class CallFailedError(Exception):
    """Say that a call to the network failed, of which kind; stays inside the transport."""

    def __init__(self, kind: Kind, detail: str = "", *, status: int = 0, channels: tuple[str, ...] = ()) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail[:DETAIL]
        self.status = status
        #: The channels that a refusal names.
        self.channels = channels

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.detail}" if self.detail else self.kind.value


def classify(error: Exception) -> CallFailedError:
    """Return what an exception of the SDK means."""
    if isinstance(error, PubNubException):
        return _of_sdk(error)
    name = type(error).__name__
    if name == "InvalidURL":
        return CallFailedError(Kind.TOO_LARGE, "the address of the request is too long")
    # A UnicodeDecodeError tells of the reply; one of encoding tells of what we sent.
    if isinstance(error, UnicodeEncodeError):
        return CallFailedError(Kind.BUG, name)
    # Text of these may quote the reply, so only the name is kept.
    return CallFailedError(Kind.BAD_REPLY, name)


def _of_sdk(error: PubNubException) -> CallFailedError:
    text, status = str(error), int(error.get_status_code() or 0)
    if status:
        kind = _BY_STATUS.get(status) or (Kind.SERVER if status >= 500 else Kind.REFUSED)  # noqa: PLR2004 - HTTP
        return CallFailedError(kind, text, status=status, channels=_named(text) if kind is Kind.DENIED else ())
    for beginning, kind in _BY_TEXT:
        if text.startswith(beginning):
            return CallFailedError(kind, text)
    return CallFailedError(Kind.BUG, text)


def _named(text: str) -> tuple[str, ...]:
    """Return the channels that the body of a refusal names, if it names any."""
    try:
        body: Any = json.loads(text[text.index("{") :])
        names = body["payload"]["channels"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()
