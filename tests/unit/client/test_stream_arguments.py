from __future__ import annotations

from typing import Any

import pytest

from blocks_worker.stream import StreamClient, StreamDescriptor

GOOD: dict[str, Any] = {
    "subscribe_key": "sub-c-1",
    "publish_key": "pub-c-1",
    "token": "t",
    "agent_name": "ticker",
    "stream_id": "t-1",
}
WRONG: list[tuple[str, Any, str]] = [
    ("subscribe_key", None, "fetch_cdm_config"),
    ("publish_key", "", "fetch_cdm_config"),
    ("token", 5, "ExternalStreamObject.token"),
    ("token", "two words", "ExternalStreamObject.token"),
    ("agent_name", "a b", "as in its card"),
    ("stream_id", "*", "stream_id"),
    ("channel", "a,b", "leave it out"),
    ("format", "x", "'bytes' or 'events'"),
    ("direction", "up", "'outbound' or 'inbound' or 'bidirectional'"),
    ("affinity", ["dedicated"], "'dedicated' or 'shared'"),
    ("side", "me", "'agent' or 'consumer'"),
    ("max_message_size", "1", "whole number of bytes"),
    ("max_message_size", 7, "not within"),
    ("bundle_size_bytes", 0, "at least 1"),
    ("max_latency_ms", True, "whole number of milliseconds"),
    ("gating", "yes", "True, False or None"),
    ("reorder_timeout_ms", 0.5, "whole number of milliseconds"),
    ("consumer_user_id", 7, "who this is"),
    ("origin", 5, ".origin"),
    ("origin", "http://192.0.2.1", "use https"),
    ("origin", "http://127.0.0.1:1/../x?y#z", "a bare host"),
    ("origin", "https://h/x?y", "a bare host"),
    ("origin", "https://me:word@h", "a bare host"),
    ("origin", "https://h:99999", "a bare host"),
    ("origin", "https://[::1", "a bare host"),
    ("origin", "https://a,b", "a bare host"),
    ("origin", "javascript:1", "a bare host"),
]


@pytest.mark.parametrize(("name", "value", "cure"), WRONG)
def test_a_wrong_argument_is_named_with_what_to_do(name: str, value: Any, cure: str) -> None:
    """What cannot be used is a ValueError that names it, before anything is asked of the network."""
    with pytest.raises(ValueError, match=r".") as caught:
        StreamClient(**{**GOOD, name: value})

    assert name in str(caught.value)
    assert cure in str(caught.value)


def test_what_is_no_descriptor_is_told() -> None:
    """A reference instead of its descriptor is told apart, and one that was made by hand is looked at."""
    made = StreamDescriptor("t", "t-1", "a", "stream.a.t-1", "k", "outbound", "up", "bytes", "dedicated", {})  # type: ignore[arg-type]  # wrong
    with pytest.raises(ValueError, match="direction is 'outbound' or 'inbound' or 'bidirectional', not 'up'"):
        StreamClient.from_descriptor(made, subscribe_key="s", publish_key="p")
    with pytest.raises(ValueError, match=r"a StreamDescriptor, not str; take it from StreamRef\.descriptor"):
        StreamClient.from_descriptor("words", subscribe_key="s", publish_key="p")  # type: ignore[arg-type]  # wrong
