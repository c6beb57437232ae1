"""What an exception out of a handler means for its task: plain rules."""

from __future__ import annotations

from blocks_worker.errors import ArtifactError, InputError
from blocks_worker.worker.run import Ending


def ending_of(error: BaseException, *, cancelled: bool, reason: str | None) -> Ending:
    """Return how a run ends whose handler raised; after a cancel it is cancelled, whatever it raised."""
    if cancelled:
        return Ending("canceled", error=said(error), reason=reason)
    if isinstance(error, InputError):
        return Ending("failed", error=said(error), error_code="invalid_input")
    if isinstance(error, ArtifactError):
        return Ending("failed", error=said(error), error_code="artifact_failed")
    if isinstance(error, Exception):
        return Ending("failed", error=said(error), error_code="handler_error")
    return Ending("failed", error="handler_exit", error_code="handler_exit", reason=type(error).__name__)


def is_our_users_fault(error: BaseException) -> bool:
    """Tell whether the input is wrong, which is no news for the log."""
    return isinstance(error, InputError)


def said(error: BaseException) -> str:
    """Return the text of an exception, or its type's name when it says nothing; an exception may fail even at that."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the class is the user's
        return type(error).__name__
