import copy
import json
from pathlib import Path
from typing import Any

import pytest

from blocks_worker.errors import ConfigurationError
from blocks_worker.protocol.cards import check_card, load_card

ROOT = Path(__file__).parents[3]
FULL: dict[str, Any] = {
    "identity": {
        "agentName": "full",
        "displayName": "Full",
        "description": "Has everything",
        "version": "1",
        "provider": {"organization": "us", "url": "https://example.org"},
        "documentationUrl": "https://example.org/docs",
        "repositoryUrl": "https://example.org/repo",
        "iconUrl": "https://example.org/icon",
        "webApps": [
            {"url": "https://example.org", "label": "App", "description": "x"},
            {"url": "http://127.0.0.1:8080/x", "label": "Local"},
        ],
    },
    "capabilities": {"taskKinds": ["request", "pipe"]},
    "tags": ["bare", {"id": "a", "name": "A", "description": "d", "examples": ["e"]}],
    "skills": [{"id": "b", "name": "B"}],
    "runtime": {
        "handler": "handler.py",
        "handlerExport": "handler",
        "concurrency": 0,
        "expectedInstances": 0,
        "maxPendingBacklog": 0,
        "maxRunningTimeSec": 1,
        "delivery": "at_most_once",
        "concurrencyLimit": 1,
    },
    "io": {
        "inputs": [
            {
                "id": "form",
                "description": "d",
                "contentType": "application/json",
                "required": True,
                "schema": {
                    "type": "object",
                    "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 0}}},
                    "required": ["a"],
                },
                "example": {"a": [1]},
            },
            {"id": "text", "description": "d", "contentType": "text/plain", "required": False, "example": "x"},
            {
                "id": "file",
                "description": "d",
                "contentType": "image/*",
                "required": False,
                "accept": ["image/png"],
                "maxSizeBytes": 26_214_400,
            },
        ],
        "outputs": [
            {"id": "o", "contentType": "application/vnd.x+json", "guaranteed": True, "schema": {}, "example": 1}
        ],
    },
    "streams": {
        "_default": {"direction": "outbound", "format": "events", "schema": {}, "affinity": "dedicated"},
        "talk": {
            "direction": "bidirectional",
            "format": "events",
            "outboundSchema": {},
            "inboundSchema": {},
            "affinity": "shared",
        },
        "raw": {"direction": "inbound", "format": "bytes", "contentType": "audio/wav", "description": "d"},
    },
    "security": {"encryption": {"anything": 1}},
    "services": {"webhooks": []},
    "extensions": {"whatever": {"x": 1}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the full card with the value at the path; ``...`` takes the key out."""
    card: Any = copy.deepcopy(FULL)
    node = card
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        node = node[step]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return card  # type: ignore[no-any-return]  # a copy of the card above


def test_a_full_card_has_no_findings() -> None:
    """[2.15] Every documented key is known."""
    assert check_card(FULL).is_clean


def test_our_own_card_has_no_findings() -> None:
    """[2.15] The card in the repository passes its own check."""
    assert check_card(load_card(ROOT / "agent-card.json")).is_clean


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("identity", 3, "identity: must be object, not integer"),
        ("identity/agentName", "a-b", "identity.agentName"),
        ("identity/agentName", 3, "identity.agentName: must be string, not integer"),
        ("identity/agentName", "", "identity.agentName"),
        ("identity/description", [], "identity.description: must be string, not array"),
        ("capabilities", [], "capabilities"),
        ("capabilities/taskKinds", ["request", "request"], "capabilities.taskKinds: names something twice"),
        ("capabilities/taskKinds", ["batch"], "capabilities.taskKinds[0]: must be one of request, pipe"),
        ("capabilities/taskKinds", [], "capabilities.taskKinds: must not be empty"),
        ("tags", "x", "tags: must be array, not string"),
        ("tags/1/id", ..., "tags[1].id: is missing"),
        ("tags/0", 3, "tags[0]: must be string, object, not integer"),
        ("skills/0/id", 3, "skills[0].id"),
        ("runtime/handler", "", "runtime.handler: must not be empty"),
        ("runtime/concurrency", "2", "runtime.concurrency: must be integer, not string"),
        ("runtime/concurrency", True, "runtime.concurrency: must be integer, not boolean"),
        ("runtime/concurrency", -1, "runtime.concurrency: must be at least 0"),
        ("runtime/expectedInstances", 1.5, "runtime.expectedInstances"),
        ("runtime/maxPendingBacklog", None, "runtime.maxPendingBacklog: must be integer, not null"),
        ("runtime/maxRunningTimeSec", 0, "runtime.maxRunningTimeSec: must be at least 1"),
        ("runtime/delivery", "maybe", "runtime.delivery: must be one of"),
        ("runtime/concurrencyLimit", 0, "runtime.concurrencyLimit"),
        ("io/inputs", {}, "io.inputs: must be array, not object"),
        ("io/inputs/0/id", ..., "io.inputs[0].id: is missing"),
        ("io/inputs/0/contentType", ..., "io.inputs[0].contentType: is missing"),
        ("io/inputs/1/contentType", "Text/Plain", "io.inputs[1].contentType"),
        ("io/inputs/1/contentType", "text/plain; charset=utf-8", "io.inputs[1].contentType"),
        ("io/inputs/1/required", "yes", "io.inputs[1].required: must be boolean, not string"),
        ("io/inputs/2/maxSizeBytes", 26_214_401, "io.inputs[2].maxSizeBytes: must be at most 26214400"),
        ("io/inputs/2/maxSizeBytes", 0, "io.inputs[2].maxSizeBytes: must be at least 1"),
        ("io/outputs/0/id", ..., "io.outputs[0].id: is missing"),
        ("streams", [], "streams"),
        ("streams/raw/direction", "sideways", "streams.raw.direction"),
        ("streams/raw/direction", ..., "streams.raw.direction: is missing"),
        ("streams/raw/format", ..., "streams.raw.format: is missing"),
        ("streams/_default/affinity", "shared", "streams._default.affinity: must be dedicated"),
        ("streams/a b", {"direction": "inbound", "format": "bytes"}, "streams: 'a b'"),
    ],
)
def test_a_wrong_value_of_a_key_we_use_is_an_error(path: str, value: Any, named: str) -> None:
    """[2.15] Each wrong type or value is told with the path of its key."""
    errors = check_card(changed(path, value)).errors

    assert any(error.startswith(named) for error in errors), errors


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("identity", ..., "identity: is missing"),
        ("identity/agentName", ..., "identity.agentName: is missing"),
        ("identity/displayName", ..., "identity.displayName: is missing"),
        ("identity/version", ..., "identity.version: is missing"),
        ("identity/provider/organization", ..., "identity.provider.organization: is missing"),
        ("identity/iconUrl", 3, "identity.iconUrl: must be string"),
        ("identity/webApps/0/url", "ftp://x", "identity.webApps[0].url"),
        ("identity/webApps/0/label", "x" * 81, "identity.webApps[0].label: may have at most 80 characters"),
        ("identity/webApps", [{"url": "https://x", "label": "x"}] * 26, "identity.webApps: may have at most 25"),
        ("price", 3, "price: unknown key"),
        ("runtime/threads", 3, "runtime.threads: unknown key"),
        ("tags/1/name", ..., "tags[1].name: is missing"),
        ("io/inputs/0/description", ..., "io.inputs[0].description: is missing"),
        ("io/inputs/0/example", ..., "io.inputs[0].example: is missing"),
        ("io/inputs/0/schema", ..., "io.inputs[0].schema: is missing"),
        ("io/inputs/0/accept", [], "io.inputs[0].accept: does not belong here"),
        ("io/inputs/0/schema/properties/a/pattern", "x", "io.inputs[0].schema.properties.a.pattern: unknown key"),
        ("io/inputs/1/schema", {}, "io.inputs[1].schema: does not belong here"),
        ("io/inputs/1/maxSizeBytes", 3, "io.inputs[1].maxSizeBytes: does not belong here"),
        ("io/inputs/2/schema", {}, "io.inputs[2].schema: does not belong here"),
        ("io/outputs/0/guaranteed", ..., "io.outputs[0].guaranteed: is missing"),
        ("streams/raw/schema", {}, "streams.raw.schema: does not belong here"),
        ("streams/talk/schema", {}, "streams.talk.schema: does not belong here"),
        ("streams/talk/inboundSchema", ..., "streams.talk.inboundSchema: is missing"),
        ("streams/_default/contentType", "a/b", "streams._default.contentType: does not belong here"),
        ("extensions", 3, "extensions: must be object"),
    ],
)
def test_form_is_a_warning(path: str, value: Any, named: str) -> None:
    """[2.15, D-4] Unknown keys, missing descriptions and keys that do not belong never stop a start."""
    findings = check_card(changed(path, value))

    assert findings.errors == []
    assert any(warning.startswith(named) for warning in findings.warnings), findings.warnings


def test_what_is_no_object_is_an_error() -> None:
    """A card that is a list is one error."""
    assert check_card([]).errors == ["the card must be an object, not array"]


@pytest.mark.parametrize(
    ("content", "told"),
    [("{\n,}", "line 2"), ("[]", "must be an object"), ('{"runtime": {"concurrency": "x"}}', "runtime.concurrency")],
)
def test_a_bad_file_is_told_with_its_place(tmp_path: Path, content: str, told: str) -> None:
    """[2.15] Broken JSON is told with its line, a wrong key with its path."""
    path = tmp_path / "agent-card.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=told):
        load_card(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A card that is not there is told by its path."""
    with pytest.raises(ConfigurationError, match="nowhere"):
        load_card(tmp_path / "nowhere.json")


def test_a_byte_order_mark_is_no_trouble(tmp_path: Path) -> None:
    """A card written by an editor that marks its files is read."""
    path = tmp_path / "agent-card.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(FULL).encode())

    assert load_card(path) == FULL
