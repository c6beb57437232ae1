"""What is sent: parts in all their forms, parameters in all their forms, and what is refused before sending."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from blocks_worker.artifacts import BLOCKS_MAX_UPLOAD_BYTES, decode_inline_artifact
from blocks_worker.client.params import RunOptions, SendMessageParams, SendOptions, params_of, submission
from blocks_worker.client.parts import (
    LargeFile,
    SendMessageRequestPart,
    file_part,
    json_part,
    text_part,
    travelling_parts,
)
from blocks_worker.client.settings import billing_mode_of, check_headers
from blocks_worker.errors import MessageTooLargeError
from blocks_worker.protocol.events import ArtifactRef

if TYPE_CHECKING:
    from pathlib import Path


#: Parameters that are numbers of seconds.
_SECONDS = ("timeout", "queue_ttl", "max_runtime", "progress_timeout", "drain_window_s")


def keep(file: LargeFile) -> ArtifactRef:
    """Be a file store that keeps nothing."""
    return ArtifactRef(kind="file", file_id=f"id of {file.file_name}", size=1)


def sent(parts: object) -> list[Any]:
    """Return the parts as they travel."""
    return travelling_parts(parts, inline_limit=100, keep=keep)


def test_texts() -> None:
    """A bare text, a text part and a dict in either spelling travel alike."""
    expected = [{"partId": "text", "text": "hi"}]

    for parts in ("hi", [text_part("hi")], [{"part_id": "text", "text": "hi"}], [{"partId": "text", "text": "hi"}]):
        assert sent(parts) == expected


def test_json_and_other_values() -> None:
    """JSON parts are text with their type; other keys and other values go as they are."""
    part = json_part({"a": 1})

    assert sent([part]) == [{"partId": "json", "text": '{"a": 1}', "contentType": "application/json"}]
    assert sent([{"partId": "x", "mood": [1]}, 7, None]) == [{"partId": "x", "mood": [1]}, 7, None]
    with pytest.raises(ValueError, match="JSON"):
        json_part(float("nan"))


def test_files(tmp_path: Path) -> None:
    """A file is read at once, keeps its name and type, and loses its text; bytes get a name."""
    (tmp_path / "a.csv").write_bytes(b"1,2")
    (named,) = sent([file_part(tmp_path / "a.csv", content_type="text/csv")])
    (bare,) = sent([SendMessageRequestPart(part_id="f", text="dropped", file=b"x")])

    assert (named["artifactRef"]["fileName"], named["contentType"]) == ("a.csv", "text/csv")
    assert decode_inline_artifact(named["artifactRef"]) == b"1,2"
    assert "text" not in bare
    assert bare["artifactRef"]["fileName"] == "attachment"
    assert file_part(b"x").file_name == "file"


def test_files_that_are_refused() -> None:
    """A file without a part id or over the largest size is a ValueError."""
    with pytest.raises(ValueError, match="part id"):
        sent([SendMessageRequestPart(file=b"x")])
    with pytest.raises(ValueError, match=str(BLOCKS_MAX_UPLOAD_BYTES)):
        file_part(bytes(BLOCKS_MAX_UPLOAD_BYTES + 1))


def test_a_file_over_the_inline_limit_is_stored(tmp_path: Path) -> None:
    """[A-7] At the limit a file travels inside; one byte more is stored, a path unread, and its reference travels."""
    (tmp_path / "b.bin").write_bytes(bytes(20_000))
    large = file_part(tmp_path / "b.bin", part_id="b", content_type="image/png")

    parts = sent([file_part(b"x" * 100), file_part(b"x" * 101), large])

    assert [part["artifactRef"]["kind"] for part in parts] == ["inline", "file", "file"]
    assert (large.file, parts[2]["artifactRef"]["fileId"]) == (tmp_path / "b.bin", "id of b.bin")
    assert {key: parts[2][key] for key in ("partId", "contentType")} == {"partId": "b", "contentType": "image/png"}


def test_forms_of_send_message() -> None:
    """Keywords, a dict, parameters, and name with parts all mean the same."""
    expected = SendMessageParams(agent_name="echo", request_parts="hi")

    assert params_of((), {"agent_name": "echo", "request_parts": "hi"}) == expected
    assert params_of(({"agent_name": "echo", "request_parts": "hi"},), {}) == expected
    assert params_of((expected,), {}) == expected
    assert params_of(("echo", "hi"), {}) == expected
    assert params_of(("echo",), {"request_parts": "hi"}) == expected


@pytest.mark.parametrize(
    ("positional", "keywords"),
    [
        ((), {"agent_name": "echo", "mood": 1}),
        (("echo", "a", "b"), {}),
        (("echo", "a"), {"request_parts": "b"}),
        ((SendMessageParams(agent_name="echo"),), {"metadata": {}}),
        ((7,), {}),
    ],
)
def test_wrong_calls(positional: tuple[object, ...], keywords: dict[str, Any]) -> None:
    """An unknown keyword, one given twice or too many arguments are a TypeError."""
    with pytest.raises(TypeError):
        params_of(positional, keywords)


@pytest.mark.parametrize(
    "fields",
    [
        {"agent_name": ""},
        {"task_kind": "job"},
        {"task_kind": ["request"]},
        {"delivery": ["at_most_once"]},
        {"duration": 3},
        {"task_kind": "pipe"},
        {"task_kind": "pipe", "duration": True},
        {"task_kind": "pipe", "duration": 43_201},
        {"metadata": {"x": "y" * 9000}},
        {"metadata": {"x": float("nan")}},
        {"queue_ttl": 0},
        {"queue_ttl": float("nan")},
        {"max_runtime": 31_536_001},
        {"progress_timeout": 0},
        {"task_kind": "pipe", "duration": 3, "progress_timeout": 5},
        {"deadline": -1},
        {"deadline": datetime(2030, 1, 1)},  # noqa: DTZ001 - this is what is refused
        {"not_before": -1},
        {"priority": 10},
        {"priority": True},
        {"delivery": "once"},
        {"timeout": -1},
        {"request_parts": ["\ud800"]},
        {"request_parts": "x" * 1_048_576},
    ],
)
def test_what_does_not_fit(fields: dict[str, Any]) -> None:
    """What the hub would refuse is a ValueError before anything is sent."""
    params = SendMessageParams(**{"agent_name": "echo", **fields})

    with pytest.raises(ValueError):  # noqa: PT011 - each has a sentence of its own
        submission(params, task_id="t", billing_mode="free", idempotency_key="k", inline_limit=100, keep=keep)


@pytest.mark.parametrize(
    "wrong",
    [
        *[(name, value) for name in _SECONDS for value in ("soon", True, [5])],
        ("not_before", True),
        ("deadline", True),
        ("metadata", "x"),
        ("metadata", ["x"]),
        ("idempotency_key", 7),
        ("idempotency_key", True),
        ("stream", "yes"),
        ("stream", 1),
        ("owner_id", 7),
        ("consumer_public_key", b"x"),
        ("parent_task_id", 7),
    ],
    ids=str,
)
def test_a_wrong_type_is_told_by_the_name_of_its_parameter(wrong: tuple[str, Any]) -> None:
    """A TypeError names the parameter and shows the value, before a file is stored or anything is sent."""
    name, value = wrong
    params = SendMessageParams(agent_name="echo", request_parts=[file_part(b"x" * 101)], **{name: value})
    stored: list[LargeFile] = []

    def noting(file: LargeFile) -> ArtifactRef:
        stored.append(file)
        return keep(file)

    with pytest.raises(TypeError, match=f"^{name} is .*{re.escape(repr(value))}$"):
        submission(params, task_id="t", billing_mode="free", idempotency_key="k", inline_limit=100, keep=noting)

    assert stored == []


def test_submission() -> None:
    """The body carries mode, ids and parts; its size is that of its bytes."""
    params = SendMessageParams(agent_name="echo", request_parts="hi")
    body, size = submission(params, task_id="t", billing_mode="paid", idempotency_key="k", inline_limit=100, keep=keep)

    assert (body.task_id, body.idempotency_key, body.billing_mode) == ("t", "k", "paid")
    assert json.loads(bytes(body.request_parts)) == [{"partId": "text", "text": "hi"}]
    assert size > len(bytes(body.request_parts))
    assert issubclass(MessageTooLargeError, ValueError)


def test_billing_mode() -> None:
    """The mode has two names and two argument names; none, unknown and contradicting ones are a ValueError."""
    assert billing_mode_of("playground", None) == billing_mode_of(None, "free") == "free"
    assert billing_mode_of("paid", "network") == "paid"
    for wrong in ((None, None), ("gratis", None), ("free", "network")):
        with pytest.raises(ValueError, match=r"mode|contradict"):
            billing_mode_of(*wrong)


@pytest.mark.parametrize("name", ["Authorization", "content-type", "X-WRITE-AFFINITY", "Blocks-Protocol-Version"])
def test_own_headers(name: str) -> None:
    """Headers that the client writes itself may not be given."""
    with pytest.raises(ValueError, match=name):
        check_headers({name: "x"})


def test_type_checkers_know_the_keywords_that_are_taken() -> None:
    """What they are told of `send_message` and `run` are the fields of `SendMessageParams`, no more and no fewer."""
    known = {one.name for one in fields(SendMessageParams)}

    assert SendOptions.__optional_keys__ | {"agent_name", "request_parts"} == known
    assert SendOptions.__optional_keys__ - RunOptions.__optional_keys__ == {"timeout"}
