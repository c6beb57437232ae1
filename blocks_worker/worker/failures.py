"""What an exception out of a handler, or a report that the hub refuses, means for its task: plain rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blocks_worker.errors import ArtifactError, EventQuotaError, InputError, RpcError
from blocks_worker.protocol.leases import EVENT_QUOTA
from blocks_worker.protocol.tasks import TOO_DEEP
from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from types import TracebackType

    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.protocol.leases import ReportAnswer

#: Modules through which a handler is called, and its coroutine or generator is carried on.
_CALLING = ("blocks_worker.worker.", "blocks_worker.testing.", "asyncio.", "concurrent.futures.")
#: Our exceptions that have a code of their own.
_CODES: dict[type[Exception], str] = {
    InputError: "invalid_input",
    ArtifactError: "artifact_failed",
    EventQuotaError: EVENT_QUOTA,
}
_CALLERS = frozenset({"blocks_worker.handlers.base", "blocks_worker.handlers.results"})


def ending_of(error: BaseException, *, stopped: Ending | None) -> Ending:
    """Return how a run ends whose handler raised; one that was told to stop is stopped, whatever it raised."""
    if stopped is not None:
        return replace(stopped, error=said(error))
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return Ending("failed", error=said(error), error_code=code)
    if isinstance(error, RpcError) and error.code == TOO_DEEP:
        return Ending("failed", error=TOO_DEEP, error_code=TOO_DEEP)
    if isinstance(error, Exception):
        return Ending("failed", error=said(error), error_code="handler_error")
    return Ending("failed", error=_left_by(error), error_code="handler_exit", reason=type(error).__name__)


def refused_report(answer: ItemResult[ReportAnswer]) -> Ending:
    """Return how a run ends of which the hub cannot take a report."""
    why = answer.problem.message if answer.problem else f"the hub answered {answer.status}"
    is_quota = answer.problem is not None and answer.problem.code == EVENT_QUOTA
    error = f"the hub refused a report: {why}"
    return Ending("failed", error=error, error_code=EVENT_QUOTA if is_quota else "bad_result")


def users_trace(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first frame of the user's code on; None when there is none in it."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_globals.get("__name__") or ""):
        trace = trace.tb_next
    return trace


def _left_by(error: BaseException) -> str:
    """Return how the handler tried to end the process or its thread."""
    if isinstance(error, SystemExit):
        return f"the handler called sys.exit({'' if error.code is None else repr(error.code)})"
    return f"the handler raised {type(error).__name__}"


def _is_ours(module: str) -> bool:
    return module in _CALLERS or module.startswith(_CALLING)


def is_our_users_fault(error: BaseException) -> bool:
    """Tell whether the input is wrong, which is no news for the log."""
    return isinstance(error, InputError)


def said(error: BaseException) -> str:
    """Return the text of an exception, or its type's name when it says nothing; an exception may fail even at that."""
    try:
        return str(error) or type(error).__name__
    except BaseException:  # noqa: BLE001 - the class is the user's, and may leave even so
        return type(error).__name__
