"""Publish and signal: check the payload once, then pass it on byte for byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from blocks_worker.hub.network.access import WRITE
from blocks_worker.hub.network.channels import Message
from blocks_worker.hub.network.wire import Refused, Reply, decoded, dumps, not_sent, too_large

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.network.call import Call

#: Bytes of a message; for an address, what follows the keys counts with its escapes.
MESSAGE_LIMIT = 32_768
SIGNAL_LIMIT = 64
#: Levels of a payload: deeper ones break readers, whose parsers recurse.
DEPTH_LIMIT = 512
#: Characters of a channel's name.
CHANNEL_LIMIT = 512
#: Characters of a custom message type.
CUSTOM_TYPE_LIMIT = 50
SIGNAL = 1
HOUR = 3600.0


def publish(call: Call, publish_key: str, channel: str, rest: Sequence[str]) -> Reply:
    """Publish the body of a POST, or the end of the address."""
    timetoken = call.realm.shared.timeline.draw()
    name = _target(call, publish_key, channel, timetoken)
    if rest:
        escaped = "/".join(rest)
        if len(escaped) + len(channel) > MESSAGE_LIMIT:
            raise Refused(too_large())
        payload = decoded(escaped).encode()
    else:
        payload = call.request.body
        if len(payload) > MESSAGE_LIMIT:
            raise Refused(too_large())
    if not is_sound_json(payload):
        raise Refused(not_sent("Invalid JSON", timetoken))
    message = _message(call, timetoken, name, payload)
    message.meta = _meta(call.query.get("meta"))
    message.original = call.number("ptto") or 0
    message.ttl = (call.number("ttl") or 0) * HOUR or None
    call.realm.publish(message, store=call.asks("store", default=True), deliver=not call.asks("norep"))
    return _sent(timetoken)


def signal(call: Call, publish_key: str, channel: str, rest: Sequence[str]) -> Reply:
    """Send a signal: small, never stored."""
    timetoken = call.realm.shared.timeline.draw()
    name = _target(call, publish_key, channel, timetoken)
    payload = decoded("/".join(rest)).encode()
    if len(payload) > SIGNAL_LIMIT:
        raise Refused(not_sent("Signal size too large", timetoken))
    if not is_sound_json(payload):
        raise Refused(not_sent("Invalid JSON", timetoken))
    message = _message(call, timetoken, name, payload)
    message.kind = SIGNAL
    call.realm.publish(message, store=False)
    return _sent(timetoken)


def is_sound_json(payload: bytes) -> bool:
    """Tell whether every reader can read it: strict JSON, no number beyond the parsers, not too deep."""
    try:
        value = _DECODER.decode(payload.decode())
    except (ValueError, RecursionError):
        return False
    shallow = payload.count(b"[") + payload.count(b"{") <= DEPTH_LIMIT
    return shallow or _depth(value) <= DEPTH_LIMIT


def _depth(value: Any) -> int:
    """Return how many levels of lists and objects a value has, level by level instead of recursing."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [below for each in level for below in (each.values() if isinstance(each, dict) else each)]
    return depth


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _target(call: Call, publish_key: str, channel: str, timetoken: int) -> str:
    """Return the channel's name, after keys, name and right are found good."""
    if publish_key != call.realm.keyset.publish_key:
        raise Refused(not_sent("Invalid Key", timetoken))
    name = decoded(channel)
    if not name or "," in channel or len(name) > CHANNEL_LIMIT:
        raise Refused(not_sent("Invalid Channel", timetoken))
    call.demand([name], WRITE)
    return name


def _message(call: Call, timetoken: int, channel: str, payload: bytes) -> Message:
    at = call.realm.shared.clock.monotonic()
    custom_type = call.query.get("custom_message_type", "")
    if len(custom_type) > CUSTOM_TYPE_LIMIT:
        raise Refused(not_sent("Invalid custom_message_type", timetoken))
    return Message(timetoken, channel, payload, at, publisher=call.user_id, custom_type=custom_type)


def _meta(text: str | None) -> bytes:
    """Return meta as JSON; what is none is kept as a string."""
    if not text:
        return b""
    raw = text.encode()
    if len(raw) > MESSAGE_LIMIT:
        raise Refused(too_large())
    return raw if is_sound_json(raw) else dumps(text)


def _sent(timetoken: int) -> Reply:
    return Reply(200, b'[1,"Sent","%d"]' % timetoken)
