"""How a refusal becomes an answer: one exception for the doors, and one table for everybody else's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import InvalidMessageError, MessageTooLargeError, StoreError
from blocks_worker.protocol.tasks import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

BAD_REQUEST = 400
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409
TOO_LARGE = 413
TOO_MANY = 429
INTERNAL = 500
UNAVAILABLE = 503
NO_ROOM = 507

#: Seconds after which a busy ledger is worth another try.
RETRY_AFTER = 1

Headers = tuple[tuple[str, str], ...]


def later(details: Mapping[str, Any] | None) -> Headers:
    """Return the header of an answer that the ledger cannot give now: when to ask again."""
    pause = (details or {}).get("retryAfter", RETRY_AFTER)
    return (("retry-after", str(math.ceil(pause))),)


def retry_after_of(told: object) -> Headers:
    """Return the header for when to ask again, where a refusal says so."""
    pause = (told.details or {}).get("retryAfter") if isinstance(told, Problem) else None
    return () if pause is None else (("retry-after", str(math.ceil(pause))),)


class RefusalError(Exception):
    """Say no with an HTTP status; raised inside a write it undoes what that write did."""

    def __init__(
        self, status: int, code: str, message: str, *, details: dict[str, Any] | None = None, headers: Headers = ()
    ) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.problem = Problem(code=code, message=message, details=details)
        self.headers = headers or retry_after_of(self.problem)


def as_refusal(error: BaseException) -> RefusalError | None:
    """Return the refusal that an error means to the caller; None when it is a fault of the hub itself."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, InvalidMessageError):
        status = TOO_LARGE if isinstance(error, MessageTooLargeError) else BAD_REQUEST
        return RefusalError(status, "InvalidInput", str(error), details={"reason": error.reason})
    if isinstance(error, StoreError):
        return _store_refusal(error)
    return None


def not_found() -> RefusalError:
    """Return the one answer for what is not there and for what is not the caller's."""
    return RefusalError(NOT_FOUND, "NotFound", "there is no such thing here, or it is not yours")


def _store_refusal(error: StoreError) -> RefusalError:
    if error.code == "full":
        return RefusalError(NO_ROOM, "NoRoom", "the hub's disk is full: nothing new is taken until there is room")
    text = "the ledger cannot answer now: repeat with the same ids"
    details = None if error.retry_after is None else {"retryAfter": error.retry_after}
    return RefusalError(UNAVAILABLE, "Unavailable", text, details=details, headers=later(details))
