"""A handler: a user's callable, its name, and how it wants to be called; the signature is read once."""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 14):
    import annotationlib

if TYPE_CHECKING:
    from collections.abc import Callable

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_EMPTY = inspect.Parameter.empty
#: Names by which an optional second argument is known to be the context, whatever its default.
_CONTEXT_NAMES = frozenset({"ctx", "context", "task_context"})
#: A handler needs the task, and may need the context.
_MOST_NEEDED = 2


@dataclass(frozen=True)
class Handler:
    """Call a user's function with the task, and with the context where it takes one.

    Accepted are ``(task)``, ``(task, ctx)``, ``(task, ctx=None)`` and ``(task, *, ctx)``, as a function,
    method, partial or object with ``__call__``.

    Attributes:
        context_by_keyword: the context goes as ``ctx=``.
        is_async: a call returns a coroutine, which the caller awaits.
    """

    function: Callable[..., object]
    name: str
    takes_context: bool
    context_by_keyword: bool
    is_async: bool

    @classmethod
    def of(cls, function: Callable[..., object], name: str | None = None) -> Handler:
        """Return the handler that calls `function`.

        Raises:
            TypeError: it is not callable, takes no argument or needs more than two; the text names it.
        """
        name = name or _name_of(function)
        if not callable(function):
            raise TypeError(f"handler {name!r} is not callable: give a function that takes (task) or (task, ctx)")
        takes_context, by_keyword = _calling(function, name)
        return cls(function, name, takes_context, by_keyword, _is_async(function))

    def __call__(self, task: object, ctx: object) -> object:
        """Return what the function returns; an async one returns its coroutine."""
        if not self.takes_context:
            return self.function(task)
        if self.context_by_keyword:
            return self.function(task, ctx=ctx)
        return self.function(task, ctx)


def _calling(function: Callable[..., object], name: str) -> tuple[bool, bool]:
    """Tell whether the function takes a context, and whether it takes it by keyword."""
    try:
        parameters = list(_signature(function).parameters.values())
    except (TypeError, ValueError):  # written in C: two arguments are what the contract promises
        return True, False
    places = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    takes_rest = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    named = {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    _check(name, places, named, takes_rest=takes_rest)
    if "ctx" in named:
        return True, True
    return _second_is_context(places, takes_rest=takes_rest), False


def _check(
    name: str,
    places: list[inspect.Parameter],
    named: dict[str, inspect.Parameter],
    *,
    takes_rest: bool,
) -> None:
    accepted = "a handler takes (task), (task, ctx), (task, ctx=None) or (task, *, ctx)"
    if not places and not takes_rest:
        raise TypeError(f"handler {name!r} takes no argument: {accepted}")
    needed = [p.name for p in (*places, *named.values()) if p.default is _EMPTY]
    foreign = [p.name for p in named.values() if p.default is _EMPTY and p.name != "ctx"]
    if len(needed) > _MOST_NEEDED or foreign:
        raise TypeError(f"handler {name!r} needs {', '.join(needed)}: {accepted}")


def _second_is_context(places: list[inspect.Parameter], *, takes_rest: bool) -> bool:
    """Tell whether the second place is the context's: another option with a default of its own is left alone."""
    if len(places) < _MOST_NEEDED:
        return takes_rest
    second = places[1]
    return second.default is _EMPTY or second.default is None or second.name in _CONTEXT_NAMES


def _signature(function: Callable[..., object]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Annotations are evaluated there; a name imported for type checkers only must not fail the start.
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    else:  # noqa: RET505 - mypy tells the two Pythons apart by this branch
        return inspect.signature(function)


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__
