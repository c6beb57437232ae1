"""Where a network is and how it behaves; whoever only names one does not load the SDK for it."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from functools import lru_cache

from blocks_worker.config import is_loopback_host
from blocks_worker.errors import ConfigurationError
from blocks_worker.observability.redact import without_password

#: Characters of a user id: the network's own limit.
USER_ID = 92
#: A name or an address of a machine; `urlsplit` takes nearly anything for one.
_HOST = re.compile(r"[\w.:-]+\Z")


@dataclass(frozen=True)
class PubNubSettings:
    """Where the network is and how it behaves.

    `origin` is an address with its scheme, or a bare host, which means TLS; cleartext goes to this machine only.
    `hold` is how many seconds the network keeps an empty poll; `retention_limit` messages of at most
    `retention_age` seconds are what it keeps for pollers. `own_handler` false leaves even cleartext to the SDK.
    """

    origin: str
    publish_key: str
    subscribe_key: str
    user_id: str
    hold: float = 280.0
    retention_limit: int = 100
    retention_age: float = 1200.0
    own_handler: bool = True

    def __post_init__(self) -> None:
        """Refuse what the SDK would only stumble over later."""
        _check(self.origin, self.user_id)

    @property
    def address(self) -> tuple[str, str]:
        """The scheme, and the host with port and path."""
        return _address(self.origin)

    @property
    def asks_no_proxy(self) -> bool:
        """Whether our own handler is used, which knows no proxy."""
        return self.address[0] == "http" and self.own_handler

    @property
    def is_loopback(self) -> bool:
        """Whether the origin is this machine."""
        return _is_loopback(self.address[1])


@lru_cache(maxsize=64)  # who publishes asks for the settings of now each time
def _check(origin: str, user_id: str) -> None:
    scheme, place = _address(origin)
    said = without_password(origin)
    if scheme not in {"http", "https"} or not _is_place(origin, place):
        raise ConfigurationError(f"origin {said!r}: give http://127.0.0.1:PORT, https://HOST or a bare host")
    if scheme == "http" and not _is_loopback(place):
        raise ConfigurationError(f"origin {said!r}: cleartext is for this machine only; use https")
    if not 0 < len(user_id) <= USER_ID or urllib.parse.quote(user_id, safe="~:@") != user_id:
        raise ConfigurationError(f"user_id must be 1 to {USER_ID} characters that are plain in an address")


def _address(origin: str) -> tuple[str, str]:
    scheme, found, rest = origin.partition("://")
    return (scheme, rest.rstrip("/")) if found else ("https", origin.rstrip("/"))


def _is_place(origin: str, place: str) -> bool:
    """Tell whether it is a host, perhaps with a port and a path: nothing is cut off, and no way leads up."""
    try:
        parts = urllib.parse.urlsplit(f"//{place}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    # One word and a number may be anything: a host of one word is written with its scheme.
    is_whole = "://" in origin or "." in name or ":" in name or name == "localhost"
    is_clean = f"//{place}" == f"//{parts.netloc}{parts.path}" and ".." not in parts.path.split("/")
    return is_whole and is_clean and port != 0 and _HOST.match(name) is not None and "@" not in parts.netloc


def _is_loopback(place: str) -> bool:
    return is_loopback_host(urllib.parse.urlsplit(f"//{place}").hostname or "")
