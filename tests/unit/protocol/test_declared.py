from typing import Any

from blocks_worker.protocol.cards import Card, DeclaredInput, DeclaredOutput, DeclaredStream

CARD: dict[str, Any] = {
    "capabilities": {"taskKinds": ["pipe"]},
    "io": {
        "inputs": [
            {"id": "form", "contentType": "application/json", "required": True, "schema": {"properties": {}}},
            {"id": "photo", "contentType": "image/*", "accept": ["image/png"], "maxSizeBytes": 9},
        ],
        "outputs": [{"id": "sum", "contentType": "text/plain", "guaranteed": True}],
    },
    "streams": {
        "talk": {"direction": "bidirectional", "format": "events", "inboundSchema": {"a": 1}, "outboundSchema": {}},
        "raw": {"direction": "inbound", "format": "bytes", "affinity": "shared", "contentType": "audio/wav"},
    },
    "security": {"encryption": {"supported": True}},
}


def test_a_card_is_read_by_what_it_declares() -> None:
    """Inputs, outputs and streams are values, by their names."""
    card = Card(CARD)

    assert card.task_kinds == {"pipe"}
    assert card.inputs == {
        "form": DeclaredInput(id="form", content_type="application/json", is_required=True, schema={"properties": {}}),
        "photo": DeclaredInput(id="photo", content_type="image/*", accept=("image/png",), max_size=9),
    }
    assert card.outputs == {"sum": DeclaredOutput(id="sum", content_type="text/plain", is_guaranteed=True)}
    assert card.streams == {
        "talk": DeclaredStream(
            name="talk", direction="bidirectional", format="events", inbound_schema={"a": 1}, outbound_schema={}
        ),
        "raw": DeclaredStream(
            name="raw", direction="inbound", format="bytes", affinity="shared", content_type="audio/wav"
        ),
    }
    assert card.declares_encryption


def test_no_card_declares_request_tasks_and_nothing_else() -> None:
    """[D-4] Without a card any part may come, any artifact may be given, and there are no streams."""
    card = Card(None)

    assert card.task_kinds == {"request"}
    assert (card.inputs, card.outputs, card.streams, card.declares_encryption) == ({}, {}, {}, False)


def test_what_has_a_wrong_type_is_passed_over() -> None:
    """A card of an older day never breaks who reads it."""
    wrong = {"capabilities": [], "io": {"inputs": [3, {"id": 4}], "outputs": {}}, "streams": {"x": 1}, "security": 3}
    card = Card(wrong)

    assert card.task_kinds == {"request"}
    assert (card.inputs, card.outputs, card.streams, card.declares_encryption) == ({}, {}, {}, False)
