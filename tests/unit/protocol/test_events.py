import json

import pytest

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import decode, encode
from blocks_worker.protocol.events import (
    MAX_EVENT,
    ArtifactRef,
    EventBody,
    TaskEventMessage,
    check_event,
    event_head,
    numbered,
    stored_event,
)


def test_an_event_keeps_what_the_worker_said_and_gains_what_the_hub_knows() -> None:
    """A stored event reads back with its place, and its body was never written again."""
    body = encode(EventBody(type="artifact", artifact_ref=ArtifactRef(kind="inline", data="aGk=", size=2)))
    check_event(body)

    stored = numbered(stored_event(event_head("t", 2, 4), 3, body), 5)

    event = decode(TaskEventMessage, stored)
    assert (event.task_id, event.epoch, event.n, event.ts, event.seq) == ("t", 2, 3, 4, 5)
    assert event.artifact_ref is not None
    assert event.artifact_ref.data == "aGk="
    assert stored.endswith(body[1:])


@pytest.mark.parametrize("name", ["taskId", "epoch", "n", "seq", "ts", "lastN", "protocolVersion"])
def test_a_worker_may_not_write_the_head(name: str) -> None:
    """A field that the hub writes is refused in a worker's event. [K5]"""
    with pytest.raises(InvalidMessageError, match="the hub writes it"):
        check_event(json.dumps({"type": "progress", name: 1}).encode())


@pytest.mark.parametrize("kind", ["terminal", "cancel_requested", "StartTask", ""])
def test_a_worker_may_not_send_the_hubs_events(kind: str) -> None:
    """A worker cannot forge a terminal: it reports an outcome."""
    with pytest.raises(InvalidMessageError):
        check_event(json.dumps({"type": kind}).encode())


def test_an_event_over_the_limit_is_refused() -> None:
    """What is too large goes by reference."""
    with pytest.raises(InvalidMessageError, match="reference"):
        check_event(json.dumps({"type": "progress", "message": "x" * MAX_EVENT}).encode())
