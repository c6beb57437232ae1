"""Tokens of the access manager: made by the hub, checked here; the signature is checked before anything is read."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cbor2

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

READ = 1
WRITE = 2
DELETE = 8

#: Characters of a token that is looked at.
TOKEN_LIMIT = 64 * 1024
#: Verified tokens that are remembered.
REMEMBERED = 1024
#: What stands before the signature's bytes: the key and a byte string of 32.
_SEAL = cbor2.dumps(b"sig") + b"\x58\x20"
_TAIL = len(_SEAL) + 32
#: Where a token says behind which API key it stands.
_KEY = "key"
#: What is told of a token whose API key was revoked.
REVOKED = "Token is revoked."


class Denied(Exception):  # noqa: N818 - an answer on its way out, not a failure of ours
    """Say why a request is not allowed; `channels` are those without the right, None for a bad token."""

    def __init__(self, message: str, channels: Sequence[str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.channels = channels


@dataclass(frozen=True)
class Rights:
    """Be what a verified token allows."""

    user_id: str | None
    expires_s: int
    channels: dict[str, int]
    #: Id of the API key behind it, empty where none is.
    key: str = ""


def mint(
    secret: bytes,
    *,
    user_id: str | None,
    read: Iterable[str] = (),
    write: Iterable[str] = (),
    delete: Iterable[str] = (),
    ttl_minutes: int,
    now_s: int,
    key: str = "",
) -> str:
    """Return a token for these channels; with a user id nobody else may use it.

    `key` is the id of the API key with which it is to end.

    Raises:
        ValueError: the time to live is not 1 to 43,200 minutes.
    """
    if not 1 <= ttl_minutes <= 43_200:  # noqa: PLR2004 - thirty days, the hosted service's bound
        raise ValueError(f"ttl_minutes must be 1 to 43200, not {ttl_minutes}")
    bits: dict[str, int] = {}
    for names, bit in ((read, READ), (write, WRITE), (delete, DELETE)):
        for name in names:
            bits[name] = bits.get(name, 0) | bit
    fields: dict[bytes, object] = {
        b"v": 2,
        b"t": now_s,
        b"ttl": ttl_minutes,
        b"res": _resources(bits),
        b"pat": _resources({}),
        b"meta": {_KEY: key} if key else {},
    }
    if user_id is not None:
        fields[b"uuid"] = user_id
    signature = _sign(secret, cbor2.dumps(fields))
    return base64.urlsafe_b64encode(cbor2.dumps({**fields, b"sig": signature})).decode()


class AccessManager:
    """Check tokens; verified ones are remembered, so that a token costs its signature once."""

    def __init__(
        self, secrets: Callable[[], Iterable[bytes]], now_s: Callable[[], int], revoked: Container[str] = ()
    ) -> None:
        self._secrets = secrets
        self._revoked = revoked
        self._now_s = now_s
        self._verified: dict[str, Rights] = {}

    def demand(self, token: str | None, user_id: str | None, names: Sequence[str], bit: int) -> None:
        """Make sure that the token gives this user this right on all channels.

        Raises:
            Denied: it does not.
        """
        if not token:
            raise Denied("Forbidden", names)
        rights = self._verified.get(token) or self._verify(token)
        if self._now_s() >= rights.expires_s:
            raise Denied("Token is expired.")
        if rights.key in self._revoked:
            raise Denied(REVOKED)
        if rights.user_id is not None and rights.user_id != user_id:
            raise Denied("Token is not for this uuid.")
        lacking = [name for name in names if not rights.channels.get(name, 0) & bit]
        if lacking:
            raise Denied("Forbidden", lacking)

    def is_revoked(self, token: str | None) -> bool:
        """Tell whether the key behind a token that was good before was revoked."""
        rights = (self._verified.get(token) or self._opened(token)) if token else None
        return rights is not None and rights.key in self._revoked

    def _verify(self, token: str) -> Rights:
        rights = self._opened(token)
        if rights is None:
            raise Denied("Token is invalid.")
        if len(self._verified) >= REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = rights
        return rights

    def _opened(self, token: str) -> Rights | None:
        return _opened(self._secrets(), token)


def _opened(secrets: Iterable[bytes], token: str) -> Rights | None:
    """Return the rights in a token that was signed with one of these, None for any other text."""
    if len(token) > TOKEN_LIMIT:
        return None
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    body, tail = raw[:-_TAIL], raw[-_TAIL:]
    seal, signature = tail[: len(_SEAL)], tail[len(_SEAL) :]
    if seal != _SEAL or not body or not 0xA1 <= body[0] <= 0xB7:  # noqa: PLR2004 - a short CBOR map
        return None
    unsigned = bytes((body[0] - 1,)) + body[1:]
    if not any(hmac.compare_digest(signature, _sign(secret, unsigned)) for secret in secrets):
        return None
    fields = cbor2.loads(unsigned)
    expires = fields[b"t"] + fields[b"ttl"] * 60
    return Rights(fields.get(b"uuid"), expires, fields[b"res"][b"chan"], fields[b"meta"].get(_KEY, ""))


def _resources(channels: dict[str, int]) -> dict[bytes, dict[str, int]]:
    return {b"chan": channels, b"grp": {}, b"spc": {}, b"usr": {}, b"uuid": {}}


def _sign(secret: bytes, data: bytes) -> bytes:
    return hmac.digest(secret, data, "sha256")
