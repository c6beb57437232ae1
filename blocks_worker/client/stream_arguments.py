"""The arguments of a stream that is opened by hand: looked at before anything is asked of the network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

from blocks_worker.client.own_stream import Side
from blocks_worker.errors import ConfigurationError
from blocks_worker.protocol.channels import AGENT
from blocks_worker.protocol.streams import STREAM, Affinity, Direction, Format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: What a channel may be called: the rest is taken for a list of channels, or for all of a kind.
_CHANNEL = re.compile(r"[^\s,*/]{1,200}\Z")
#: Where one who has none of them finds the keys.
_KEYS = "keys and origin stand in the CDM document: fetch_cdm_config().keyset('free') and .origin"
_TOKENS = "a token stands in ExternalStreamObject.token, and in StreamRef.descriptor.token"


def check_arguments(given: Mapping[str, Any]) -> None:
    """Check what is handed to a stream, by the names that users know; what is not there is not looked at.

    Raises:
        ConfigurationError: one cannot be used; the sentence tells which, and what can.
    """
    for name, value in given.items():
        check = _CHECKS.get(name)
        if check is not None:
            check(name, value)


def _text(name: str, value: object, cure: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a text, not {type(value).__name__}; {cure}")
    if not value or not value.isprintable() or " " in value:
        raise ConfigurationError(f"{name} is empty, or has a character that no such text has; {cure}")
    return value


def _needed(cure: str) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        _text(name, value, cure)

    return check


def _perhaps(cure: str) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if value is not None:
            _text(name, value, cure)

    return check


def _named(pattern: re.Pattern[str], cure: str) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if not pattern.match(_text(name, value, cure)):
            raise ConfigurationError(f"{name} {str(value)[:80]!r} cannot be one; {cure}")

    return check


def _one_of(kind: object, *, optional: bool = False) -> Callable[[str, object], None]:
    words = get_args(kind)

    def check(name: str, value: object) -> None:
        if not (optional and value is None) and value not in words:
            raise ConfigurationError(f"{name} is {' or '.join(map(repr, words))}, not {value!r}")

    return check


def _number(least: int, what: str) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(f"{name} is a whole number of {what}, at least {least}, or None; not {value!r}")

    return check


def _flag(name: str, value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{name} is True, False or None, not {value!r}")


def _channel(name: str, value: object) -> None:
    cure = "it is the channel of an announcement, as 'stream.AGENT.ID'; leave it out, and agent_name and stream_id say"
    if value is not None:
        _named(_CHANNEL, cure)(name, value)


_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    "subscribe_key": _needed(_KEYS),
    "publish_key": _needed(_KEYS),
    "token": _perhaps(_TOKENS),
    "agent_name": _named(AGENT, "it is the name of the agent whose stream it is, as in its card"),
    "stream_id": _named(STREAM, "it is ExternalStreamObject.stream_id, or StreamRef.descriptor.stream_id"),
    "channel": _channel,
    "format": _one_of(Format),
    "direction": _one_of(Direction),
    "affinity": _one_of(Affinity),
    "max_message_size": _number(1, "bytes"),
    "bundle_size_bytes": _number(1, "bytes"),
    "max_latency_ms": _number(0, "milliseconds"),
    "gating": _flag,
    "reorder_timeout_ms": _number(0, "milliseconds"),
    "consumer_user_id": _perhaps("it is who this is on the network, or None for somebody new"),
    "origin": _perhaps(_KEYS),
    "side": _one_of(Side, optional=True),
}
