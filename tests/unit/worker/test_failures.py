"""What the log shows of an exception out of a handler."""

from __future__ import annotations

import traceback

from blocks_worker.handlers.base import Handler
from blocks_worker.handlers.results import normalise
from blocks_worker.worker.failures import users_trace


def caught(function: object, *args: object) -> BaseException:
    """Return what a call raised."""
    try:
        function(*args)  # type: ignore[operator]  # a function, by its callers
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        return error
    raise AssertionError("nothing was raised")


def frames(error: BaseException) -> list[str]:
    """Return the functions in the user's part of the traceback."""
    return [frame.name for frame in traceback.extract_tb(users_trace(error))]


def test_a_traceback_begins_with_the_users_code() -> None:
    """Frames that call the handler are left out; those which it calls stay."""

    def inner() -> None:
        raise ValueError("no")

    def handler(task: object) -> None:
        del task
        inner()

    error = caught(Handler.of(handler), None, None)
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # this file calls it, as no worker does

    assert frames(error) == ["handler", "inner"]


def test_an_error_without_users_code_has_no_frames() -> None:
    """A result that cannot be read is told by its sentence."""
    error = caught(normalise, "\ud800")
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next

    assert users_trace(error) is None
