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
        ("io/inputs/2/accept", ["Image/PNG"], "io.inputs[2].accept[0]"),
        ("io/inputs/0/schema/type", "array", "io.inputs[0].schema.type: must be object"),
        ("io/inputs/0/schema/required", "a", "io.inputs[0].schema.required: must be array, not string"),
        ("io/inputs/0/schema/properties/a/type", "strnig", "io.inputs[0].schema.properties.a.type: must be one of"),
        ("io/inputs/1/id", "form", "io.inputs[1].id: names something twice"),
        ("io/outputs/0/id", ..., "io.outputs[0].id: is missing"),
        ("io/outputs/0/schema", {"anyOf": [{"type": 3}]}, "io.outputs[0].schema.anyOf[0].type: must be string, array"),
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
        ("io/inputs/0/schema/properties/a/pattern", "x", "io.inputs[0].schema.properties.a.pattern: unknown key"),
        ("io/outputs/0/guaranteed", ..., "io.outputs[0].guaranteed: is missing"),
        ("streams/talk/inboundSchema", ..., "streams.talk.inboundSchema: is missing"),
        ("extensions", 3, "extensions: must be object"),
    ],
)
def test_form_is_a_warning(path: str, value: Any, named: str) -> None:
    """[2.15, D-4] Unknown keys and missing descriptions never stop a start."""
    findings = check_card(changed(path, value))

    assert findings.errors == []
    assert any(warning.startswith(named) for warning in findings.warnings), findings.warnings


@pytest.mark.parametrize(
    ("path", "value", "key", "rule"),
    [
        ("io/inputs/0/accept", [], "io.inputs[0].accept", "a form is JSON"),
        ("io/inputs/0/maxSizeBytes", 3, "io.inputs[0].maxSizeBytes", "a form is checked by its schema"),
        ("io/inputs/1/schema", {}, "io.inputs[1].schema", "only a form, an input of JSON, has a schema"),
        ("io/inputs/1/accept", [], "io.inputs[1].accept", "a text has the one content type"),
        ("io/inputs/1/maxSizeBytes", 3, "io.inputs[1].maxSizeBytes", "only files have a size"),
        ("io/inputs/2/schema", {}, "io.inputs[2].schema", "only a form, an input of JSON, has a schema"),
        ("streams/raw/schema", {}, "streams.raw.schema", "bytes have none"),
        ("streams/raw/inboundSchema", {}, "streams.raw.inboundSchema", "bytes have none"),
        ("streams/talk/schema", {}, "streams.talk.schema", "an outboundSchema and an inboundSchema instead"),
        ("streams/_default/outboundSchema", {}, "streams._default.outboundSchema", "has the one schema"),
        ("streams/_default/contentType", "a/b", "streams._default.contentType", "events are JSON"),
    ],
)
def test_a_key_that_others_rule_out_is_an_error_with_its_rule(path: str, value: Any, key: str, rule: str) -> None:
    """[R-59] Keys that contradict each other are told by path, with the rule in words and what to do."""
    (found,) = check_card(changed(path, value)).all

    assert found.is_error
    assert (found.where, found.cure) == (key, "take it out")
    assert rule in found.text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("x" * 70_000, "more than the 65536 allowed"),
        ([[]] * 5_000, "more than 4096 keys and entries"),
        (float("nan"), "cannot travel"),
        ({1, 2}, "cannot travel"),
        ("\ud800", "cannot travel"),
    ],
)
def test_a_card_that_is_too_much_is_one_error(value: Any, told: str) -> None:
    """[R-59] What would take long to check, or is not JSON, is refused before it is looked at."""
    (error,) = check_card({**FULL, "extensions": {"x": value}}).errors

    assert told in error


def test_a_card_nested_too_deep_is_one_error() -> None:
    """[R-59] A schema inside schemas inside schemas costs nobody his stack."""
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"items": deep}

    assert "deeper than 32" in check_card(changed("io/outputs/0/schema", deep)).errors[0]


def test_a_card_with_no_end_of_wrong_keys_is_told_in_part() -> None:
    """The findings of one card are bounded."""
    assert len(check_card({**FULL, **{f"k{number}": 1 for number in range(3000)}}).all) == 100


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


def test_a_slip_in_a_key_is_told_with_the_key_that_was_meant() -> None:
    """The near one instead of all that there are."""
    card = changed("identity/descripton", "x")

    (found,) = [one for one in check_card(card).all if one.where == "identity.descripton"]
    assert found.text == "unknown key; did you mean 'description'?"


@pytest.mark.parametrize(("name", "better"), [("a b", ""), ("a-b", "; write 'a_b'")])
def test_a_name_that_cannot_be_is_answered_in_words(name: str, better: str) -> None:
    """Who names an agent reads no regular expression."""
    (error,) = check_card(changed("identity/agentName", name)).errors

    assert error == f"identity.agentName: {name!r} is not a name of 1 to 64 letters, digits and _{better}"
