import functools
from typing import Any

import pytest

from blocks_worker.handlers.base import Handler


def one(task: object) -> Any:
    """Take the task alone."""
    return ("one", task)


def two(task: object, ctx: object) -> Any:
    """Take both."""
    return ("two", task, ctx)


def optional(task: object, ctx: object = None) -> Any:
    """Take the context when there is one."""
    return ("optional", task, ctx)


def keyword(task: object, *, ctx: object) -> Any:
    """Take the context by its name."""
    return ("keyword", task, ctx)


def own_option(task: object, retries: int = 3) -> Any:
    """Have an option that is not the context."""
    return ("own_option", task, retries)


def rest(*args: object) -> Any:
    """Take whatever comes."""
    return ("rest", *args)


def three(task: object, ctx: object, other: object) -> None:
    """Need one too many."""


def foreign(task: object, *, other: object) -> None:
    """Need something by a name that is not the context's."""


def named_only(*, task: object, ctx: object) -> None:
    """Take nothing by position."""


class Holder:
    """Have a method, and be callable itself."""

    def method(self, task: object, ctx: object) -> Any:
        """Take both."""
        return ("method", task, ctx)

    def __call__(self, task: object) -> Any:
        """Take the task alone."""
        return ("object", task)


async def later(task: object) -> Any:
    """Be async."""
    return task


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (one, ("one", 1)),
        (two, ("two", 1, 2)),
        (optional, ("optional", 1, 2)),
        (keyword, ("keyword", 1, 2)),
        (own_option, ("own_option", 1, 3)),
        (rest, ("rest", 1, 2)),
        (Holder().method, ("method", 1, 2)),
        (Holder(), ("object", 1)),
        (functools.partial(two, ctx=5), ("two", 1, 2)),
    ],
)
def test_each_form_is_called_as_it_wants(function: Any, expected: Any) -> None:
    """[2.5, R-53] Every accepted form gets the task, and the context where it takes one."""
    assert Handler.of(function)(1, 2) == expected


@pytest.mark.parametrize(
    "function",
    [lambda: None, three, foreign, named_only, lambda **_: None],
)
def test_a_form_that_cannot_be_called_is_refused_by_name(function: Any) -> None:
    """[2.2 check 5] No argument, or more than two needed: a TypeError that names the handler."""
    with pytest.raises(TypeError, match="'greet'"):
        Handler.of(function, "greet")


def test_what_is_not_callable_is_refused_by_name() -> None:
    """Something that cannot be called is told by its name."""
    with pytest.raises(TypeError, match=r"'greet' is not callable"):
        Handler.of(3, "greet")  # type: ignore[arg-type]  # on purpose


def test_an_unreadable_signature_gets_two_arguments() -> None:
    """[2.5] A function written in C whose signature cannot be read is called with task and context."""
    assert Handler.of(max)(1, 2) == 2


@pytest.mark.parametrize(("function", "expected"), [(later, True), (functools.partial(later), True), (one, False)])
def test_async_handlers_are_known(function: Any, expected: Any) -> None:
    """An async function is known as one, inside a partial too."""
    assert Handler.of(function).is_async is expected


def test_the_name_is_the_functions_own_or_the_given() -> None:
    """A handler is named after its function, the type of its object, or as it is told."""
    names = [Handler.of(one).name, Handler.of(Holder()).name, Handler.of(functools.partial(two)).name]

    assert [*names, Handler.of(one, "greet").name] == ["one", "Holder", "two", "greet"]
