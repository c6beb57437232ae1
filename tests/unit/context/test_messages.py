from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.context.messages import (
    AgentInstancePresenceState,
    CancelTaskMessage,
    ControlMessage,
    ExpireTaskMessage,
    StartTaskMessage,
    parse_control_message,
)
from blocks_worker.errors import InputError
from blocks_worker.protocol.parts import RequestPart


def task(*parts: Any, **fields: Any) -> StartTaskMessage:
    """Return a task of these parts."""
    return StartTaskMessage(request_parts=list(parts), **fields)


def test_nothing_is_needed() -> None:
    """[2.6] from_dict never raises on missing keys, and fills in what the table says."""
    message = StartTaskMessage.from_dict({})

    assert (message.type, message.task_id, message.owner_id, message.org_id) == (
        "StartTask",
        "",
        "anonymous",
        "anonymous",
    )
    assert (message.task_kind, message.attempt, message.has_stream, message.metadata) == ("request", 1, False, {})


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"ownerId": "o", "orgId": "g"}, ("o", "g")),
        ({"ownerId": "o", "callerClaims": {"sub": "s"}}, ("o", "o")),
        ({"callerClaims": {"sub": "s"}}, ("s", "s")),
    ],
)
def test_the_owner_is_resolved(wire: Any, expected: Any) -> None:
    """[2.6] The owner is the id, else the caller's subject; the org falls back to the owner."""
    message = StartTaskMessage.from_dict(wire)

    assert (message.owner_id, message.org_id) == expected


def test_a_message_survives_the_wire() -> None:
    """[2.6] camelCase out and in again gives an equal message, without empty keys."""
    message = task({"partId": "a", "text": "x"}, "bare", task_id="t", duration_expires_at_ms=5, owner_id="o")
    wire = message.to_dict()

    assert StartTaskMessage.from_dict(wire) == message
    assert wire == {
        "type": "StartTask",
        "taskId": "t",
        "ownerId": "o",
        "orgId": "o",
        "requestParts": [{"partId": "a", "text": "x"}, "bare"],
        "taskKind": "request",
        "durationExpiresAtMs": 5,
        "attempt": 1,
    }
    assert type(wire["requestParts"][0]) is dict


def test_one_run_is_made_from_a_start_body() -> None:
    """The worker's constructor takes the content, and leaves grants and leases behind."""
    start = {"agentName": "echo", "requestParts": [{"text": "x"}], "writeToken": "w", "lease": "l", "epoch": 4}
    message = StartTaskMessage.of(task_id="t", attempt=2, start=start)

    assert (message.task_id, message.attempt, message.agent_name, message.text()) == ("t", 2, "echo", "x")
    assert not {"w", "l", 4} & {value for value in vars(message).values() if isinstance(value, (str, int))}


def test_text_is_found_or_told() -> None:
    """[2.6] The named part's text, the first text, the default, or an InputError that names the part."""
    message = task({"partId": "n", "n": 1}, {"partId": "a", "text": "A"}, {"partId": "b", "text": "B"})

    assert (message.text(), message.text("b"), message.text("n", default="d"), message.text("z", None)) == (
        "A",
        "B",
        "d",
        None,
    )
    with pytest.raises(InputError, match="'n'") as caught:
        message.text("n")
    assert caught.value.part_id == "n"


def test_json_is_parsed_or_told() -> None:
    """[2.6] Parsed text, or the extra keys; what is not JSON is an InputError that names the part."""
    message = task({"partId": "n", "n": 1}, {"partId": "j", "text": "[1]"}, {"partId": "bad", "text": "{"})

    assert (message.json(), message.json("j")) == ({"n": 1}, [1])
    for part in ("bad", "none"):
        with pytest.raises(InputError, match=part):
            message.json(part)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[" * 100_000, "1" * 5000, ""])
def test_hostile_json_is_an_input_error(text: str) -> None:
    """Whatever a part's text holds, the handler sees an InputError at worst."""
    with pytest.raises(InputError, match="'p'"):
        task({"partId": "p", "text": text}).json("p")


def test_parts_are_found_by_id() -> None:
    """[2.6] A part by its id, else the default or an InputError; files are the parts with an artifact."""
    message = task({"partId": "a"}, {"partId": "f", "artifactRef": {"kind": "inline", "data": ""}}, 3)

    assert message.part("a") == {"partId": "a"}
    assert message.part("z", None) is None
    assert [part.part_id for part in message.files] == ["f"]
    with pytest.raises(InputError, match="'z'"):
        message.part("z")


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"type": "CancelTask", "taskId": "t", "reason": "r"}, CancelTaskMessage("t", "r")),
        ({"type": "ExpireTask", "taskId": "t", "agentName": "a"}, ExpireTaskMessage("t", "a")),
        ({"type": "PauseTask", "taskId": "t", "caller": "c"}, ControlMessage("PauseTask", "t", "c")),
        ({"type": "StartTask", "taskId": "t"}, StartTaskMessage(task_id="t")),
        ({"type": "Moon"}, None),
        ({"type": ["x"]}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_control_messages_are_parsed_by_type(wire: Any, expected: Any) -> None:
    """[2.6] A known type becomes its message, everything else None."""
    assert parse_control_message(wire) == expected


def test_presence_survives_the_wire() -> None:
    """[2.4] What presence tells goes out and in again."""
    state = AgentInstancePresenceState("AG-1", 2, 4, 1000)

    assert AgentInstancePresenceState.from_dict(state.to_dict()) == state
    assert state.to_dict()["activeTasks"] == 2


_keys = st.sampled_from(["type", "taskId", "requestParts", "callerClaims", "metadata", "attempt", "ownerId", "x"])
_values = st.none() | st.text() | st.integers() | st.lists(st.dictionaries(st.text(), st.none())) | st.just({"sub": 1})


@given(st.dictionaries(_keys, _values))
def test_any_dict_makes_a_message(wire: Any) -> None:
    """[2.6] from_dict never raises, whatever the values are."""
    message = StartTaskMessage.from_dict(wire)

    assert all(isinstance(part, RequestPart) or not isinstance(part, dict) for part in message.request_parts)
    assert isinstance(message.owner_id, str)
