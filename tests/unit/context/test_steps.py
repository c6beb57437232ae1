"""What a durable step may be called and hold, and the steps of a context that a test makes by hand."""

from __future__ import annotations

from typing import Any

import pytest

from blocks_worker.context.steps import check_count, check_name, stored_form, value_of
from blocks_worker.context.task import TaskContext
from blocks_worker.errors import StepError
from blocks_worker.protocol.steps import MAX_NAME, MAX_STEP, MAX_STEPS, STEP_DEPTH


def nested(levels: int) -> Any:
    """Return so many lists, one in the other."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def cycle() -> Any:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


async def coroutine() -> int:
    """Be none of what a step returns."""
    return 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2.5,
        10**300,
        "",
        "ä\u2028\0",
        [],
        {},
        {"a": [1, {"b": None}]},
        "x" * (MAX_STEP - 2),
        nested(STEP_DEPTH),
    ],
)
def test_json_comes_back_as_it_was(value: object) -> None:
    """[J20] Whatever JSON can hold is stored, up to the bounds, and comes back equal."""
    assert value_of(stored_form("a", value)) == value


def test_a_tuple_comes_back_as_a_list() -> None:
    """The first run gets what the later ones get: JSON knows no tuples."""
    assert TaskContext(task_id="x").step("a", lambda: (1, (2,))) == [1, [2]]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({1, 2}, "set"),
        (b"x", "bytes"),
        (object(), "object"),
        (float("nan"), "JSON"),
        (float("inf"), "JSON"),
        ("\ud800", "surrogates"),
        ({1: "a"}, "key 1"),
        ([{("a",): 1}], "key"),
        (10**401, "digits"),
        ("x" * (MAX_STEP - 1), "publish it as an artifact"),
        (nested(STEP_DEPTH + 1), "deeper"),
        (cycle(), "deeper"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(value: object, why: str) -> None:
    """[J20] What JSON cannot hold as it is, or is too large, is an error of its own that names the step."""
    with pytest.raises(StepError, match=rf"the step 'fetch' .*{why}"):
        stored_form("fetch", value)


def test_a_coroutine_is_refused_and_closed() -> None:
    """[J20] A function that is `async` is no step: the error says so, and nothing is left to be awaited."""
    with pytest.raises(StepError, match="coroutine"):
        TaskContext(task_id="x").step("a", coroutine)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1), "a\n", "\ud800", "a\0", 3, None])
def test_a_name_that_is_none_is_refused(name: object) -> None:
    """[J20] A name is a text of 1 to 128 characters that can be printed; else nothing is called."""
    calls: list[int] = []
    with pytest.raises(StepError, match=r"name|called"):
        TaskContext(task_id="x").step(name, lambda: calls.append(1))  # type: ignore[arg-type]  # the point of it

    assert calls == []
    check_name("x" * MAX_NAME)
    check_name("page 3 of 10")


def test_one_step_too_many() -> None:
    """[J20] A task has a thousand."""
    check_count("a", MAX_STEPS - 1)
    with pytest.raises(StepError, match="1000"):
        check_count("a", MAX_STEPS)


def test_a_step_is_done_once_and_a_failure_is_not_stored() -> None:
    """[J20] A name used twice gives what is stored, a value of its own each time; what raises is done again."""
    ctx, calls = TaskContext(task_id="x"), list[int]()

    def work() -> dict[str, int]:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError("not this time")
        return {"calls": len(calls)}

    with pytest.raises(LookupError):
        ctx.step("a", work)
    first, second = ctx.step("a", work), ctx.step("a", work)
    first["calls"] = 9

    assert second == ctx.step("a", work) == {"calls": 2}
    assert len(calls) == 2
