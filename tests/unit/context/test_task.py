"""A context made by hand, as a handler's own test makes it; and the sending half."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING, Any

import pytest

from blocks_worker.artifacts import inline_artifact
from blocks_worker.concurrency import Clock
from blocks_worker.context.events import TaskEvents, download_input_artifact
from blocks_worker.context.task import TaskContext
from blocks_worker.errors import ArtifactError, TaskCancelledError

if TYPE_CHECKING:
    from blocks_worker.protocol.events import ArtifactRef, EventBody


class Recorder:
    """An emitter that keeps what it is given."""

    def __init__(self) -> None:
        self.said: list[EventBody] = []

    def emit(self, event: EventBody) -> None:
        """Keep it."""
        self.said.append(event)

    def emit_latest(self, event: EventBody) -> None:
        """Keep it."""
        self.said.append(event)


def test_a_context_by_hand_reports_nowhere() -> None:
    """Reports do nothing, what needs a hub says so."""
    ctx = TaskContext(task_id="x")
    ctx.report_status("a")
    ctx.report_progress(0.5, "b")

    for call in (ctx.create_stream, lambda: ctx.publish_artifact("x"), lambda: ctx.download_input_artifact({})):
        with pytest.raises(RuntimeError, match="not available in this context"):
            call()
    assert (ctx.is_cancelled, ctx.is_expired, ctx.idempotency_key, ctx.remaining()) == (False, False, "x", None)


def test_every_member_may_be_given() -> None:
    """A test hands over what it wants to watch."""
    said: list[str] = []
    event = threading.Event()
    ctx = TaskContext(
        task_id="x",
        has_stream=True,
        consumer_public_key="k",
        report_status=said.append,
        cancel_event=event,
        task_client="client",
    )
    ctx.report_status("hello")
    event.set()

    assert (said, ctx.is_cancelled, ctx.task_client) == (["hello"], True, "client")


def test_waits_end_with_the_cancel() -> None:
    """`wait` tells, `sleep` and `check_cancelled` raise."""
    ctx = TaskContext(task_id="x")
    assert not ctx.wait(0.001)
    ctx.sleep(0.001)
    ctx.check_cancelled()
    ctx.cancel_event.set()

    assert ctx.wait(60)
    with pytest.raises(TaskCancelledError):
        ctx.sleep(60)
    with pytest.raises(TaskCancelledError):
        ctx.check_cancelled()


def test_remaining_counts_to_the_deadline() -> None:
    """Seconds left, never below zero."""
    now = Clock().monotonic()

    assert TaskContext(task_id="x", deadline=now - 1).remaining() == 0.0
    assert 0 < (TaskContext(task_id="x", deadline=now + 60).remaining() or 0) <= 60


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), float("inf")])
def test_progress_outside_its_range_is_refused(fraction: float) -> None:
    """Only 0 to 1 is progress."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        TaskEvents(Recorder(), store=inline_artifact).report_progress(fraction)


@pytest.mark.parametrize("wrong", [True, "0.5", None])
def test_progress_of_another_type_is_refused(wrong: object) -> None:
    """A number it must be."""
    with pytest.raises(TypeError):
        TaskEvents(Recorder(), store=inline_artifact).report_progress(wrong)  # type: ignore[arg-type]  # the point of it


def test_a_status_is_text_and_bounded() -> None:
    """Another type raises; a long text is cut with a mark."""
    recorder = Recorder()
    events = TaskEvents(recorder, store=inline_artifact)
    with pytest.raises(TypeError):
        events.report_status(3)  # type: ignore[arg-type]  # the point of it
    events.report_status("x" * 100_000)

    message = recorder.said[0].message or ""
    assert (len(message), message[-1]) == (4096, "…")


def four_bytes(data: bytes, *, output_id: str | None = None, **said: Any) -> ArtifactRef:
    """Take four bytes at most."""
    return inline_artifact(data, limit=4, **said)


def test_artifacts_of_all_byte_like_types() -> None:
    """Text is text/plain, bytes-likes are octet-streams, anything else a TypeError, too much an ArtifactError. [A-7]"""
    recorder = Recorder()
    events = TaskEvents(recorder, store=four_bytes)
    refs = [events.publish_artifact(data) for data in ("text", b"byte", bytearray(b"arr"), memoryview(b"view"))]

    assert [ref.mime_type for ref in refs] == ["text/plain"] + ["application/octet-stream"] * 3
    assert [base64.b64decode(ref.data or "") for ref in refs] == [b"text", b"byte", b"arr", b"view"]
    with pytest.raises(TypeError):
        events.publish_artifact({"a": 1})  # type: ignore[arg-type]  # the point of it
    with pytest.raises(ArtifactError):
        events.publish_artifact("12345")
    assert len(recorder.said) == 4


def test_an_input_artifact_is_read() -> None:
    """Inline bytes come back, a file is fetched; a part without one and nonsense are ValueErrors."""
    part = {"partId": "a", "artifactRef": {"kind": "inline", "data": base64.b64encode(b"hi").decode(), "size": 2}}

    def fetch(ref: ArtifactRef) -> bytes:
        return f"stored {ref.file_id}".encode()

    assert download_input_artifact(part, fetch) == b"hi"
    assert download_input_artifact({"artifactRef": {"kind": "file", "fileId": "f"}}, fetch) == b"stored f"
    for wrong in ({}, {"artifactRef": {"kind": "odd"}}, {"artifactRef": 3}):
        with pytest.raises(ValueError, match=r".+"):
            download_input_artifact(wrong, fetch)
