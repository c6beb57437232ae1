"""What a task brings against what the card asks for, by the life of tasks at a real ledger."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support_worker import OWNER, LedgerInProcess, WorkerAtHub

from blocks_worker.protocol.cards import Card
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.tasks import SubmitTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.protocol.tasks import TaskRow

FORM = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1}, "name": {"type": "string", "pattern": "^(a+)+$"}},
    "required": ["count"],
}
CARD = Card(
    {
        "io": {
            "inputs": [
                {"id": "form", "contentType": "application/json", "required": True, "schema": FORM},
                {"id": "note", "contentType": "text/plain", "required": False},
                {"id": "photo", "contentType": "image/*", "required": False, "maxSizeBytes": 8},
                {"id": "sound", "contentType": "audio/*", "required": False, "accept": ["audio/wav", "audio/flac"]},
                {"id": "raw", "contentType": "application/octet-stream", "required": False},
            ]
        }
    }
)
SOUND_FORM = {"partId": "form", "text": '{"count": 2}'}


def file(part_id: str, content: bytes, mime_type: str = "image/png", **more: Any) -> dict[str, Any]:
    """Return a part that carries a small file."""
    data = base64.b64encode(content).decode()
    ref = {"kind": "inline", "mimeType": mime_type, "size": len(content), "data": data, **more}
    return {"partId": part_id, "contentType": mime_type, "artifactRef": ref}


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a fresh ledger."""
    with LedgerInProcess() as ledger:
        yield ledger


@dataclass
class Served:
    """A handler whose card has inputs, and what reached it."""

    hub: LedgerInProcess
    calls: list[Any]


@pytest.fixture(scope="module")
def the_worker() -> Iterator[Served]:
    """Serve one worker to all who only look at its tasks."""
    calls: list[Any] = []
    with LedgerInProcess() as hub, WorkerAtHub(hub, lambda task: calls.append(task.task_id), card=CARD) as worker:
        worker.ready()
        yield Served(hub, calls)


@pytest.fixture
def served(the_worker: Served) -> Served:
    """Give the worker with no calls noted."""
    the_worker.calls.clear()
    return the_worker


def sent(hub: LedgerInProcess, *parts: Any) -> TaskRow:
    """Send a task with these parts and return it as it ended."""
    request = SubmitTask(agent_name="echo", request_parts=msgspec.Raw(encode(list(parts))))
    reply = hub.write(lambda ledger: hub.tasks.submit(ledger, OWNER, request))
    return hub.ended(str(reply.body.task_id))  # type: ignore[attr-defined]  # a SubmitAnswer


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [{"partId": "note", "text": "x", "contentType": "text/markdown; charset=utf-8"}],
        [{"partId": "note", "text": ""}],
        [file("photo", b"12345678")],
        [file("photo", b"1234", "application/octet-stream", fileName="x.PNG")],
        [file("sound", b"1234", "audio/flac")],
        [file("raw", b"1", "whatever/else")],
        [{"partId": "form", "count": 3}],
        [file("form", b'{"count": 3}', "application/json")],
        [{"partId": "form", "text": '{"count": 2, "name": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"}'}],
        [{"partId": "unnamed by the card", "text": "x"}, "bare", 3],
    ],
)
def test_what_fits_reaches_the_handler(served: Served, parts: list[Any]) -> None:
    """[R-59] A task as the card wants it runs; patterns of a card are not evaluated, and so cannot hang a slot."""
    task = sent(served.hub, SOUND_FORM, *parts)

    assert (task.state, task.error) == ("completed", None)
    assert served.calls == [task.task_id]


@pytest.mark.parametrize(
    ("parts", "part", "told"),
    [
        ([], "form", "is missing; the card requires it"),
        ([{"partId": "form"}], "form", "is empty"),
        ([{"partId": "form", "text": "{"}], "form", "is not JSON"),
        ([{"partId": "form", "text": "[" * 100_000}], "form", "is not JSON"),
        ([{"partId": "form", "text": "[]"}], "form", "must be object, not array"),
        ([{"partId": "form", "text": "{}"}], "form", "count: is missing"),
        ([{"partId": "form", "text": '{"count": 0, "name": 3}'}], "form", "count: must be at least 1; name: must be"),
        ([{"partId": "form", "text": '{"count": true}'}], "form", "count: must be integer, not boolean"),
        ([{"partId": "form", "text": "{}", "contentType": "text/plain"}], "form", "takes application/json"),
        ([file("form", b"\xff", "application/json")], "form", "is not UTF-8"),
        ([SOUND_FORM, {"partId": "form", "text": "{}"}], "form", "count: is missing"),
        ([SOUND_FORM, {"partId": "note", "text": "x", "contentType": "image/png"}], "note", "takes text/plain"),
        ([SOUND_FORM, file("photo", b"123456789")], "photo", "is 9 bytes; the card takes at most 8 (maxSizeBytes)"),
        ([SOUND_FORM, file("photo", b"123456789", size=1)], "photo", "is 9 bytes"),
        ([SOUND_FORM, file("photo", b"1", data="?")], "photo", "cannot be read"),
        ([SOUND_FORM, file("photo", b"1", "text/html")], "photo", "takes image/* (contentType)"),
        ([SOUND_FORM, file("photo", b"1", "application/octet-stream")], "photo", "takes image/* (contentType)"),
        ([SOUND_FORM, file("sound", b"1", "audio/mpeg")], "sound", "takes audio/wav, audio/flac (accept)"),
        ([SOUND_FORM, {"partId": "sound"}], "sound", "is empty"),
    ],
)
def test_what_does_not_fit_fails_without_the_handler(served: Served, parts: list[Any], part: str, told: str) -> None:
    """[R-59] The error names the part and the rule, and the handler is not called."""
    task = sent(served.hub, *parts)

    assert (task.state, task.error_code) == ("failed", "invalid_input")
    assert task.error is not None
    assert task.error.startswith(f"part {part!r} ")
    assert told in task.error
    assert served.calls == []


def test_a_card_without_inputs_asks_for_nothing(hub: LedgerInProcess) -> None:
    """[R-59] Where no input is declared any part may come."""
    with WorkerAtHub(hub, lambda task: task.text(), card=Card({"identity": {}})) as worker:
        worker.ready()

        assert sent(hub, {"partId": "anything", "text": "x", "contentType": "made/up"}).state == "completed"


OUTPUTS = Card(
    {
        "io": {
            "outputs": [
                {
                    "id": "sum",
                    "contentType": "application/json",
                    "guaranteed": True,
                    "schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
                },
                {"id": "log", "contentType": "text/plain", "guaranteed": True},
                {"id": "more", "contentType": "text/plain", "guaranteed": False},
            ]
        }
    }
)


def given(hub: LedgerInProcess, handler: Any, **settings: Any) -> tuple[TaskRow, list[str]]:
    """Run a handler whose card has outputs once; return how it ended and the warnings."""
    with WorkerAtHub(hub, handler, card=OUTPUTS, **settings) as worker:
        worker.ready()
        task = sent(hub)
        return task, [event["message"] for event in hub.events(task.task_id) if event.get("status") == "warning"]


def whole(**sum_output: Any) -> dict[str, Any]:
    """Return a result with both guaranteed outputs."""
    sum_entry = {"data": {"n": 1}, "outputId": "sum", **sum_output}
    return {"artifacts": [sum_entry, {"data": "done", "mimeType": "text/plain", "outputId": "log"}]}


def test_a_result_as_the_card_says_has_no_warning(hub: LedgerInProcess) -> None:
    """[R-59] Guaranteed outputs that are there and fit their schema are not worth a word."""
    task, warnings = given(hub, lambda _task: whole())

    assert (task.state, warnings) == ("completed", [])


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (whole(outputId="other"), ["'other' is not one of the card's: log, more, sum", "lacks output 'sum'"]),
        (whole(data={"n": "x"}), ["output 'sum' does not fit its schema: n: must be integer, not string"]),
        (whole(data="{", mimeType="application/json"), ["output 'sum' is not JSON"]),
        (None, ["lacks output 'log', which the card guarantees", "lacks output 'sum', which the card guarantees"]),
    ],
)
def test_a_result_that_breaks_the_card_is_told(hub: LedgerInProcess, result: Any, told: list[str]) -> None:
    """[R-59, R-6] Each difference is one warning, and the task completes."""
    task, warnings = given(hub, lambda _task: result)

    assert task.state == "completed"
    assert len(warnings) == len(told)
    assert all(part in warning for part, warning in zip(told, warnings, strict=True)), warnings


def test_strict_results_make_a_difference_a_failure(hub: LedgerInProcess) -> None:
    """[R-59, R-6] With strict results a broken promise is `bad_result`."""
    task, _ = given(hub, lambda _task: whole(data={"n": "x"}), strict_results=True)

    assert (task.state, task.error_code) == ("failed", "bad_result")
    assert "n: must be integer" in str(task.error)


def test_what_was_published_counts_as_given(hub: LedgerInProcess) -> None:
    """[R-6] An output that the handler published while it ran is not missed at the end, and a strange one is told."""

    def handler(_task: Any, ctx: Any) -> None:
        ctx.publish_artifact(json.dumps({"n": 1}), mime_type="application/json", output_id="sum")
        ctx.publish_artifact("done", output_id="log")
        ctx.publish_artifact("hm", output_id="strange")

    _, warnings = given(hub, handler)

    assert warnings == ["output 'strange' is not one of the card's: log, more, sum"]


def test_a_cancelled_run_owes_nothing(hub: LedgerInProcess) -> None:
    """[R-6] Who stops because he was asked to is not told what he left out."""
    started = threading.Event()

    def handler(_task: Any, ctx: Any) -> None:
        started.set()
        ctx.wait(10)

    with WorkerAtHub(hub, handler, card=OUTPUTS) as worker:
        worker.ready()
        task_id = hub.submit()
        assert started.wait(10)
        hub.cancel(task_id)
        task = hub.ended(task_id)

    assert task.state == "canceled"
    assert [event for event in hub.events(task_id) if event.get("status") == "warning"] == []
