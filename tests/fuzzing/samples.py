"""Good messages of what has no type of its own: cards, documents, frames; others are bent from them."""

from __future__ import annotations

import json
from typing import Any


def dump(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()


CARD: dict[str, Any] = {
    "identity": {"agentName": "a", "displayName": "A", "description": "d", "version": "1.0.0"},
    "tags": [{"id": "t", "name": "T"}],
    "capabilities": {"taskKinds": ["request"]},
    "io": {
        "inputs": [
            {
                "id": "i",
                "contentType": "application/json",
                "required": True,
                "schema": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}},
            }
        ],
        "outputs": [{"id": "o", "contentType": "text/plain", "guaranteed": True}],
    },
    "streams": {"s": {"direction": "outbound", "format": "events", "affinity": "shared", "schema": {"type": "string"}}},
    "runtime": {"concurrencyLimit": 3, "maxRunningTimeSec": 60},
}
CDM = {
    "playground": {"publishKey": "pub-a", "subscribeKey": "sub-a"},
    "network": {"publishKey": "pub-b", "subscribeKey": "sub-b"},
    "api": {"baseUrl": "http://127.0.0.1:3001", "clientId": "c"},
    "transport": "pubnub",
    "origin": "http://127.0.0.1:3002",
    "pubnub": {"hold": 10, "retentionLimit": 5, "retentionAge": 6},
}
INLINE = {"kind": "inline", "mimeType": "text/plain", "size": 3, "data": "YWJj", "fileName": "a.txt"}
FRAMES = [
    dump({"type": "stream_data", "streamId": "s", "sender": "w", "seq": 1, "encoding": "base64", "chunks": ["YQ=="]}),
    dump({"type": "stream_events", "streamId": "s", "sender": "w", "seq": 2, "events": [{"$binary": "YQ=="}, [1]]}),
    dump(
        {
            "type": "stream_events",
            "streamId": "s",
            "sender": "w",
            "seq": 3,
            "data": "eyJh",
            "multipart": {"id": "m", "part": 1, "total": 2},
        }
    ),
    dump(
        {
            "type": "stream_events",
            "streamId": "s",
            "sender": "w",
            "seq": 4,
            "data": "IjoxfQ==",
            "multipart": {"id": "m", "part": 2, "total": 2},
        }
    ),
    dump({"type": "stream_end", "streamId": "s", "sender": "w", "seq": 5}),
    dump({"type": "stream_ack", "streamId": "s", "sender": "r", "to": "w", "next": 4, "missing": [[1, 2]]}),
]
LINK_TO_HUB = [
    dump([["token", 1, "abc"], ["ask", 1, "POST", "/api/v1/tasks", 1, {"agentName": "a"}], ["where", 5]]),
    dump([["publish", 2, "sub-test", "u", 1, "ch", {"v": 1}], ["taken", 1, 5, 500], ["leave", 1]]),
    dump([["follow", 1, 1, "sub-test", "u", 1, "life", {"ch": 0, "other": 17000000000000000}]]),
]
LINK_FROM_HUB = [
    dump([["answer", 1, 200, {"a": 1}, "1"], ["beat"], ["denied", 1, 1, ["ch"], "why"]]),
    dump([["followed", 1, 1, "life", 17000000000000000, ["ch"]], ["lost", 1, "ch", 1, 2]]),
    dump([["said", 1, [["ch", 17000000000000001, {"v": 1, "from": "p", "n": 1, "b": [json.loads(FRAMES[0])]}]]]]),
]
