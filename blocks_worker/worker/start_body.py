"""The task's content: which of two copies counts, and whether it is the one that the hub meant."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import convert, decode_trusted
from blocks_worker.protocol.control import StartBody

if TYPE_CHECKING:
    from blocks_worker.protocol.control import StartTask
    from blocks_worker.protocol.leases import ClaimAnswer


def offered_digest(offer: StartTask) -> str | None:
    """Return the digest of the content that came with an offer; None when none did, or not the one it names."""
    if offer.start is None:
        return None
    digest = hashlib.sha256(offer.start.encode("utf-8", errors="replace")).hexdigest()
    return digest if digest == offer.digest else None


def content_of(offer: StartTask, answer: ClaimAnswer) -> bytes | None:
    """Return the content that the lease is for; None when neither offer nor answer holds it."""
    if not isinstance(answer.start, msgspec.UnsetType):
        return bytes(answer.start)
    if offer.start is not None and offered_digest(offer) == answer.digest:
        return offer.start.encode()
    return None


def parsed(content: bytes) -> dict[str, Any]:
    """Return the content as a handler's message is made from.

    Raises:
        InvalidMessageError: it is not a task's.
    """
    start = decode_trusted(dict[str, Any], content)
    convert(StartBody, {name: value for name, value in start.items() if name != "requestParts"})
    if not isinstance(start.get("requestParts", []), list):
        raise InvalidMessageError("shape", "requestParts is not a list")
    return start
