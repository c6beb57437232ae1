"""What a durable step may be called and hold: strict JSON, as the ledger keeps it and every run gets it back."""

from __future__ import annotations

import inspect
import json
import reprlib
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import InvalidMessageError, StepError
from blocks_worker.protocol import codec
from blocks_worker.protocol.steps import MAX_NAME, MAX_STEP, MAX_STEPS, STEP_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable


def check_name(name: object) -> None:
    """Refuse what no step can be called.

    Raises:
        StepError: it is no text of 1 to 128 characters.
    """
    if not isinstance(name, str):
        raise StepError(name, "is called by a text: ctx.step('fetch', fn)")
    if not 1 <= len(name) <= MAX_NAME:
        raise StepError(name, f"has a name of {len(name)} characters: give it 1 to {MAX_NAME}")
    if not name.isprintable():
        raise StepError(name, "has a name that cannot be printed: leave control characters out")


def check_count(name: str, count: int) -> None:
    """Refuse one more step than a task may have.

    Raises:
        StepError: it has as many as it may.
    """
    if count >= MAX_STEPS:
        raise StepError(name, f"is one too many: a task has {MAX_STEPS}; do more in one step, or send sub-tasks")


def stored_form(name: str, value: object) -> bytes:
    """Return a value as it is stored.

    Raises:
        StepError: it is not JSON, or too large.
    """
    data = _encoded(name, value)
    if len(data) > MAX_STEP:
        hint = "publish it as an artifact, or store it elsewhere, and return its reference"
        raise StepError(name, f"returned {len(data)} bytes of JSON, and {MAX_STEP} are allowed: {hint}")
    return data


def value_of(data: bytes) -> Any:
    """Return what is stored, as a new value each time."""
    return json.loads(data)


class LocalSteps:
    """Keep the steps of a context that was made by hand."""

    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}

    def __call__(self, name: str, fn: Callable[[], object]) -> Any:
        """Return what is stored under the name; do it first where that is nothing."""
        check_name(name)
        if name not in self._stored:
            check_count(name, len(self._stored))
            self._stored.setdefault(name, stored_form(name, fn()))
        return value_of(self._stored[name])


def _encoded(name: str, value: object) -> bytes:
    try:
        _check_kinds(value)
        data = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        codec.inspect(data, limit=len(data), depth=STEP_DEPTH)
    except RecursionError as error:
        raise StepError(name, f"returned what is nested deeper than {STEP_DEPTH} levels, or holds itself") from error
    except (ValueError, TypeError) as error:
        raise StepError(name, f"returned what cannot be stored as JSON: {error}") from error
    return data


def _check_kinds(value: object) -> None:
    """Refuse what JSON would hold in another form than it had, so that the first run sees what the later ones see."""
    if inspect.iscoroutine(value):
        value.close()
        raise InvalidMessageError("coroutine", "it is a coroutine; a step's function is none, or runs it to its end")
    if isinstance(value, dict):
        for key, held in value.items():
            if not isinstance(key, str):
                raise InvalidMessageError("key", f"the key {reprlib.repr(key)} of a dict is no text")
            _check_kinds(held)
    elif isinstance(value, (list, tuple)):
        for held in value:
            _check_kinds(held)
