"""What a handler is given, and what it and its tests may read from the control channel: plain dataclasses.

They carry the task's content only. Grants, epochs and leases stay with the worker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from blocks_worker.errors import InputError
from blocks_worker.protocol.control import PROTOCOL_VERSION
from blocks_worker.protocol.parts import RequestPart

if TYPE_CHECKING:
    from collections.abc import Mapping

_M = TypeVar("_M", bound="_Message")
_D = TypeVar("_D")


class _NotGiven:
    """Tell an argument that was left out from None."""


_NOT_GIVEN: Final = _NotGiven()


class _Message:
    """Turn a dataclass into what travels and back: camelCase keys, empty values left out."""

    @classmethod
    def from_dict(cls: type[_M], wire: Mapping[str, Any]) -> _M:  # noqa: PYI019 - Self came with Python 3.11
        """Return the message; missing keys take their defaults, unknown ones are left aside."""
        kind: Any = cls
        return cls(**{name: wire[key] for name, key in _wire_names(kind) if key in wire})

    def to_dict(self) -> dict[str, Any]:
        """Return the keys that travel, without empty ones."""
        kind: Any = type(self)
        pairs = [(key, getattr(self, name)) for name, key in _wire_names(kind)]
        return {key: _plain(value) for key, value in pairs if not _is_empty(value)}


@dataclass(kw_only=True)
class StartTaskMessage(_Message):
    """The task as its handler sees it.

    Attributes:
        request_parts: a `RequestPart` each; an entry that is no dict stays as it came.
        duration: minutes, of a pipe task.
        duration_expires_at_ms: unix milliseconds.
        attempt: 1 for the first run.
    """

    task_id: str = ""
    agent_name: str = ""
    request_summary: str = ""
    owner_id: str = ""
    org_id: str = ""
    request_parts: list[Any] = field(default_factory=list)
    caller_claims: dict[str, Any] = field(default_factory=dict)
    task_kind: str = "request"
    duration: int | None = None
    duration_expires_at_ms: int | None = None
    consumer_public_key: str | None = None
    has_stream: bool = False
    protocol_version: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    attempt: int = 1
    parent_task_id: str | None = None
    type: str = "StartTask"

    def __post_init__(self) -> None:
        parts: Any = self.request_parts
        self.request_parts = [
            RequestPart.from_dict(part) if isinstance(part, dict) and not isinstance(part, RequestPart) else part
            for part in (parts if isinstance(parts, (list, tuple)) else ())
        ]
        self.caller_claims = _dict(self.caller_claims)
        self.metadata = _dict(self.metadata)
        self.owner_id = str(self.owner_id or self.caller_claims.get("sub") or "anonymous")
        self.org_id = self.org_id or self.owner_id

    @classmethod
    def of(cls, *, task_id: str, attempt: int, start: Mapping[str, Any]) -> StartTaskMessage:
        """Return the message of one run from the task's start body."""
        known = {**start, "type": "StartTask", "taskId": task_id, "attempt": attempt}
        known.setdefault("protocolVersion", PROTOCOL_VERSION)
        return cls.from_dict(known)

    @property
    def files(self) -> list[RequestPart]:
        """The parts whose data are an artifact."""
        return [part for part in self._parts() if part.artifact_ref is not None]

    def part(self, part_id: str, default: _D | _NotGiven = _NOT_GIVEN) -> RequestPart | _D:
        """Return the part with this id, else the default.

        Raises:
            InputError: there is none and no default was given.
        """
        for part in self._parts():
            if part.part_id == part_id:
                return part
        if isinstance(default, _NotGiven):
            raise InputError(f"the input has no part {part_id!r}; send one with this id", part_id=part_id)
        return default

    def text(self, part: str | None = None, default: _D | _NotGiven = _NOT_GIVEN) -> str | _D:
        """Return the text of the named part, or of the first that has one, else the default.

        Raises:
            InputError: there is none and no default was given.
        """
        for candidate in self._parts():
            text = candidate.text
            if text is not None and (part is None or part == candidate.part_id):
                return text
        if isinstance(default, _NotGiven):
            which = "no part with text" if part is None else f"no part {part!r} with text"
            raise InputError(f"the input has {which}; send one", part_id=part)
        return default

    def json(self, part: str | None = None) -> Any:
        """Return the parsed text of the named part, or of the first that has text or further keys, else these keys.

        Raises:
            InputError: there is no such part, or its text is not JSON.
        """
        for candidate in self._parts():
            if part in (None, candidate.part_id) and (candidate.text is not None or candidate.extra):
                return candidate.extra if candidate.text is None else parsed_json(candidate.text, candidate.part_id)
        which = "no part with JSON" if part is None else f"no part {part!r} with JSON"
        raise InputError(f"the input has {which}; send one", part_id=part)

    def _parts(self) -> list[RequestPart]:
        return [part for part in self.request_parts if isinstance(part, RequestPart)]


@dataclass
class CancelTaskMessage(_Message):
    """Ask that a task stop."""

    task_id: str = ""
    reason: str | None = None
    caller: Any = None
    protocol_version: str | None = None
    type: str = "CancelTask"


@dataclass
class ExpireTaskMessage(_Message):
    """Say that a task's duration is over."""

    task_id: str = ""
    agent_name: str = ""
    reason: str | None = None
    protocol_version: str | None = None
    type: str = "ExpireTask"


@dataclass
class ControlMessage(_Message):
    """Ask that a task pause, resume or be terminated."""

    type: str = ""
    task_id: str = ""
    caller: Any = None
    protocol_version: str | None = None


@dataclass
class AgentInstancePresenceState(_Message):
    """How an instance stands, as its heartbeats tell.

    Attributes:
        started_at: unix milliseconds.
    """

    instance_id: str = ""
    active_tasks: int = 0
    concurrency: int = 1
    started_at: int = 0
    active_streams: int = 0
    protocol_versions: list[str] = field(default_factory=lambda: [PROTOCOL_VERSION])
    preferred_protocol_version: str = PROTOCOL_VERSION
    protocol_version: str | None = None


_KINDS: dict[str, type[_Message]] = {
    "StartTask": StartTaskMessage,
    "CancelTask": CancelTaskMessage,
    "ExpireTask": ExpireTaskMessage,
    "PauseTask": ControlMessage,
    "ResumeTask": ControlMessage,
    "TerminateTask": ControlMessage,
}


def parse_control_message(
    wire: object,
) -> StartTaskMessage | CancelTaskMessage | ExpireTaskMessage | ControlMessage | None:
    """Return the message that a dict holds, by its ``type``; None when it is none that we know."""
    kind = wire.get("type") if isinstance(wire, dict) else None
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    return None if known is None else known.from_dict(wire)  # type: ignore[arg-type, return-value]  # a dict, one of the four


@cache
def _wire_names(kind: Any) -> tuple[tuple[str, str], ...]:
    return tuple((item.name, _camel(item.name)) for item in fields(kind))


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_empty(value: object) -> bool:
    return value is None or value is False or value in ("", [], {})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [dict(item) if isinstance(item, RequestPart) else item for item in value]
    return value


def parsed_json(text: str, part_id: str | None) -> Any:
    """Return the value of a part's JSON.

    Raises:
        InputError: it is none.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"part {part_id!r} is not JSON: {error}", part_id=part_id) from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
