"""What every handler may rely on: each signature and each form of result, through a real worker and hub."""

from __future__ import annotations

import base64
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import pytest
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker.handlers.base import Handler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Artifact = tuple[bytes, str, str | None, str | None]


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a fresh ledger."""
    with LedgerInProcess() as ledger:
        yield ledger


@dataclasses.dataclass
class Answer:
    """Be a dataclass."""

    text: str


class Model:
    """Be what pydantic models look like."""

    def model_dump_json(self) -> str:
        """Return JSON."""
        return '{"text":"hi"}'


class Callee:
    """Be an object that can be called, and one with a method."""

    def __call__(self, task: Any) -> str:
        """Echo."""
        return str(task.text())

    def method(self, task: Any, ctx: Any) -> str:
        """Echo, if there is a context."""
        return f"{task.text()}{'' if ctx else '!'}"


def only_task(task: Any) -> str:
    """Echo."""
    return str(task.text())


def both(task: Any, ctx: Any) -> str:
    """Echo, and name the task by the context."""
    assert ctx.task_id == task.task_id
    return str(task.text())


def optional(task: Any, ctx: Any = None) -> str:
    """Echo, and see that the context came though it need not."""
    assert ctx is not None
    return str(task.text())


def by_name(task: Any, *, ctx: Any) -> str:
    """Echo, with a context by its name."""
    assert ctx.task_id == task.task_id
    return str(task.text())


def anything(*given: Any) -> str:
    """Echo, from a signature that says nothing."""
    return str(given[0].text())


def with_prefix(prefix: str, task: Any) -> str:
    """Echo, with a part that was given before."""
    return prefix + str(task.text())


async def later(task: Any, ctx: Any) -> str:
    """Echo on the event loop."""
    return both(task, ctx)


SIGNATURES: dict[str, Callable[..., Any]] = {
    "(task)": only_task,
    "(task, ctx)": both,
    "(task, ctx=None)": optional,
    "(task, *, ctx)": by_name,
    "(*given)": anything,
    "lambda": lambda task: task.text(),
    "partial": functools.partial(with_prefix, ""),
    "object": Callee(),
    "method": Callee().method,
    "async def": later,
}


def values() -> Iterator[Any]:
    """Yield some values."""
    yield 1
    yield "two"


#: What a handler returns, and the artifacts that it becomes: data, type, file name, output id.
FORMS: dict[str, tuple[Any, list[Artifact]]] = {
    "None": (None, []),
    "str": ("hé", [("hé".encode(), "text/plain", None, None)]),
    "bytes": (b"\x00\xff", [(b"\x00\xff", "application/octet-stream", None, None)]),
    "bytearray": (bytearray(b"a"), [(b"a", "application/octet-stream", None, None)]),
    "memoryview": (memoryview(b"abc")[1:], [(b"bc", "application/octet-stream", None, None)]),
    "artifacts": (
        {"artifacts": [{"data": "x", "mimeType": "a/b", "fileName": "f", "outputId": "o"}, {"data": b"y"}]},
        [(b"x", "a/b", "f", "o"), (b"y", "application/octet-stream", None, None)],
    ),
    "snake_case": (
        {"artifacts": [{"data": b"x", "mime_type": "a/b", "file_name": "f", "output_id": "o"}]},
        [(b"x", "a/b", "f", "o")],
    ),
    "dict as data": ({"artifacts": [{"data": {"a": 1}}]}, [(b'{"a": 1}', "application/json", None, None)]),
    "old form": (
        {"artifact": "t", "mimeType": "text/plain", "fileName": "f"},
        [(b"t", "text/plain", "f", None)],
    ),
    "old form, an entry": ({"artifact": {"data": b"t", "mimeType": "a/b"}}, [(b"t", "a/b", None, None)]),
    "list of entries": ([{"data": "x", "mimeType": "text/plain"}], [(b"x", "text/plain", None, None)]),
    "dict": ({"answer": 1}, [(b'{"answer": 1}', "application/json", None, None)]),
    "dataclass": (Answer("hi"), [(b'{"text": "hi"}', "application/json", None, None)]),
    "model": (Model(), [(b'{"text":"hi"}', "application/json", None, None)]),
    "generator": (values, [(b'[1,"two"]', "application/json", None, None)]),
}
#: What is left out, and how many artifacts are left.
LEFT_OUT: dict[str, tuple[Any, int]] = {
    "int": (3, 0),
    "object": (object(), 0),
    "set": ({1}, 0),
    "an unknown entry": ({"artifacts": [{"data": "a"}, 3]}, 1),
    "an entry without data": ({"artifacts": [{"mimeType": "a/b"}]}, 0),
    "an unknown key": ({"artifacts": [{"data": "a"}], "note": 1}, 1),
}


def answered(hub: LedgerInProcess, handler: Callable[..., Any], **settings: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Run one task through a worker with this handler; return its row and its events."""
    with WorkerAtHub(hub, handler, **settings) as at:
        at.ready()
        task = hub.submit("hi")
        return hub.ended(task), hub.events(task)


def artifacts(events: list[dict[str, Any]]) -> list[Artifact]:
    """Return what was published."""
    found = []
    for event in events:
        if event["type"] == "artifact":
            ref = event["artifactRef"]
            found.append((base64.b64decode(ref["data"]), ref["mimeType"], ref.get("fileName"), event.get("outputId")))
    return found


@pytest.mark.parametrize("name", SIGNATURES)
def test_each_signature_is_called_as_it_asks(hub: LedgerInProcess, name: str) -> None:
    """[2.5, A-3, A-6] Functions, methods, partials, objects and coroutines get the task, and the context if asked."""
    row, events = answered(hub, SIGNATURES[name])

    assert row.state == "completed"
    assert artifacts(events) == [(b"hi", "text/plain", None, None)]


@pytest.mark.parametrize("name", FORMS)
def test_each_form_of_result_arrives(hub: LedgerInProcess, name: str) -> None:
    """[2.5, A-6] Every documented form is completed, stored as exactly its artifacts, in order, without a warning."""
    returned, expected = FORMS[name]
    row, events = answered(hub, lambda _task: returned() if callable(returned) else returned)

    assert row.state == "completed"
    assert artifacts(events) == expected
    assert not [event for event in events if event.get("status") == "warning"]


def test_a_path_arrives_as_its_file(hub: LedgerInProcess, tmp_path: Path) -> None:
    """[2.5] A path is the file under its name."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"hello")
    row, events = answered(hub, lambda _task: path)

    assert row.state == "completed"
    assert artifacts(events) == [(b"hello", "text/plain", "notes.txt", None)]


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_told_once(hub: LedgerInProcess, name: str) -> None:
    """[2.5, A-6, R-6] An unknown shape is one warning to the consumer; the rest of the result counts."""
    returned, left = LEFT_OUT[name]
    row, events = answered(hub, lambda _task: returned)

    assert row.state == "completed"
    assert len([event for event in events if event.get("status") == "warning"]) == 1
    assert len(artifacts(events)) == left


def test_strict_results_fail_instead(hub: LedgerInProcess) -> None:
    """[2.5] With strict results an unknown shape fails the task."""
    row, _ = answered(hub, lambda _task: 3, strict_results=True)

    assert (row.state, row.error_code) == ("failed", "bad_result")


def test_what_cannot_be_called_with_a_task_is_no_handler() -> None:
    """[2.5] A wrong signature is told at the start, not with the first task."""
    with pytest.raises(Exception, match="task"):
        Handler.of(lambda: None)
