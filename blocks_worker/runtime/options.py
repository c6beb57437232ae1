"""What a provider may say of an instance, and every check of it before anything is started."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import ConfigurationError
from blocks_worker.handlers.base import Handler
from blocks_worker.handlers.registry import check_agent_name
from blocks_worker.protocol.channels import INSTANCE
from blocks_worker.protocol.tasks import MAX_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Entropy

#: Slots of an instance that asked for no limit.
UNLIMITED_SLOTS = 64
_MOST_SLOTS = 4096


@dataclass(kw_only=True)
class AgentInstanceOptions:
    """Say what an instance is.

    Attributes:
        agent_name: letters, digits and underscores; default: the card's ``identity.agentName``.
        handler: the function that does a task: ``handler(task)`` or ``handler(task, ctx)``.
        card: agent card; None: a minimal one is made from these options.
        concurrency: tasks at the same time; 0: no limit asked for, which is 64.
        max_running_time_sec: limit of one run, in seconds, at most a year; wins over the card's.
        heartbeat_ms: heartbeat interval in milliseconds, brought into 1000..60000.
        instance_id: a stable name; a new process under the same name supersedes the old one.
        on_error: called with (task_id, exception) when a handler raises.
        cdm_url: where the document is that says where hub and network are.
        on_fatal: called with the exception when the instance cannot go on.
        drain_timeout: seconds that `stop` lets running tasks finish.
        strict_results: a result of an unknown shape fails the task instead of being reported.
        embedded_hub: start or join the local hub when nothing else is configured; None: as the environment says.
    """

    agent_name: str | None = None
    handler: Callable[..., object] | None = None
    card: dict[str, Any] | None = None
    description: str | None = None
    capabilities: list[str] | None = None
    tags: list[Any] | None = None
    skills: list[Any] | None = None
    concurrency: int | None = None
    expected_instances: int | None = None
    max_pending_backlog: int | None = None
    max_running_time_sec: int | None = None
    heartbeat_ms: int = 5000
    instance_id: str | None = None
    on_error: Callable[[str, BaseException], None] | None = None
    card_ref: str | None = None
    card_summary: str | None = None
    listing: str | None = None
    cdm_url: str | None = None
    on_fatal: Callable[[BaseException], None] | None = None
    drain_timeout: float | None = None
    strict_results: bool = False
    embedded_hub: bool | None = None


@dataclass(frozen=True, kw_only=True)
class InstancePlan:
    """Options after every check: what is missing is filled in."""

    agent_name: str
    handler: Handler
    instance_id: str
    card: dict[str, Any]
    description: str
    concurrency: int
    expected_instances: int
    max_pending_backlog: int
    max_running_time_sec: int
    delivery: str
    heartbeat_interval: float
    listing: str | None
    outputs: frozenset[str]


def options_of(given: object) -> AgentInstanceOptions:
    """Return options from options or from a dict with the same keys.

    Raises:
        ValueError: neither, or a key that is no option.
    """
    if isinstance(given, AgentInstanceOptions):
        return given
    if not isinstance(given, dict):
        raise ConfigurationError(f"options must be AgentInstanceOptions or a dict, not {type(given).__name__}")
    known = {field.name for field in fields(AgentInstanceOptions)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigurationError(f"unknown option {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}")
    return AgentInstanceOptions(**given)


def plan(options: AgentInstanceOptions, entropy: Entropy) -> InstancePlan:
    """Return the plan of the instance, or say which option is wrong.

    Raises:
        ValueError: an option or a card key, named in the text.
        TypeError: the handler cannot be called with a task.
    """
    card = _card(options.card)
    agent_name = _agent_name(options.agent_name or _read(card, "identity.agentName", str, None))
    handler = _handler(options.handler, agent_name)
    runtime = _Limits(options, card)
    concurrency = runtime.number("concurrency", 1)
    return InstancePlan(
        agent_name=agent_name,
        handler=handler,
        instance_id=_instance_id(options.instance_id, agent_name, entropy),
        card=_with_tags(card or _made_card(agent_name, options), options),
        description=options.description or _read(card, "identity.description", str, None) or "",
        concurrency=min(concurrency or UNLIMITED_SLOTS, _MOST_SLOTS),
        expected_instances=runtime.number("expected_instances", 1),
        max_pending_backlog=runtime.number("max_pending_backlog", 10_000),
        max_running_time_sec=max(1, runtime.number("max_running_time_sec", 3600, most=MAX_SECONDS)),
        delivery=_read(card, "runtime.delivery", str, "at_least_once"),
        heartbeat_interval=min(max(_whole("heartbeat_ms", options.heartbeat_ms), 1000), 60_000) / 1000,
        listing=options.listing,
        outputs=frozenset(_outputs(card)),
    )


class _Limits:
    """Read a number from the option, else from the card's ``runtime`` block, else take the default."""

    def __init__(self, options: AgentInstanceOptions, card: dict[str, Any]) -> None:
        self._options = options
        self._card = card

    def number(self, name: str, default: int, most: int | None = None) -> int:
        """Return the number that the option or the card's camelCase key gives."""
        given = getattr(self._options, name)
        if given is not None:
            return _whole(name, given, most)
        key = re.sub(r"_(\w)", lambda match: match[1].upper(), name)
        read = _read(self._card, f"runtime.{key}", int, None)
        return default if read is None else _whole(f"card runtime.{key}", read, most)


def _card(card: object) -> dict[str, Any]:
    if card is None:
        return {}
    if not isinstance(card, dict):
        raise ConfigurationError(f"card must be a dict, not {type(card).__name__}; load the JSON file first")
    from blocks_worker.protocol.cards import check_card

    if card:
        findings = check_card(card)
        if findings.errors:
            raise ConfigurationError("agent card: " + "; ".join(findings.errors))
    return card


def _read(card: dict[str, Any], path: str, kind: type, default: Any) -> Any:
    node: Any = card
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    if node is None:
        return default
    if not isinstance(node, kind) or isinstance(node, bool):
        raise ConfigurationError(f"card {path} must be {kind.__name__}, not {type(node).__name__}")
    return node


def _agent_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigurationError("no agent name: give agent_name, or identity.agentName in the card")
    return check_agent_name(name, "agent_name")


def _handler(function: object, agent_name: str) -> Handler:
    if function is None:
        raise ConfigurationError(f"agent {agent_name!r} has no handler: give handler=a function of one task")
    if isinstance(function, Handler):
        return function
    if not callable(function):
        raise ConfigurationError(f"handler of agent {agent_name!r} is {type(function).__name__}, which is not callable")
    return Handler.of(function)


def _instance_id(given: str | None, agent_name: str, entropy: Entropy) -> str:
    if given is None:
        return f"AG-{agent_name[:48]}-{entropy.name()}"
    if not INSTANCE.match(given):
        raise ConfigurationError(f"instance_id {given!r} may hold 1 to 92 letters, digits, '-' and '_'")
    return given


def _whole(name: str, value: object, most: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigurationError(f"{name}={value!r} must be a whole number of zero or more")
    if most is not None and value > most:
        raise ConfigurationError(f"{name}={value} is too much: at most {most}")
    return value


def _outputs(card: dict[str, Any]) -> list[str]:
    outputs = _read(card, "io.outputs", list, [])
    return [output["id"] for output in outputs if isinstance(output, dict) and isinstance(output.get("id"), str)]


def _made_card(agent_name: str, options: AgentInstanceOptions) -> dict[str, Any]:
    return {"identity": {"agentName": agent_name, "description": options.description or ""}, "tags": []}


def _with_tags(card: dict[str, Any], options: AgentInstanceOptions) -> dict[str, Any]:
    """Return the card with the tags of all sources, in order, each id once."""
    sources = [card.get("tags"), card.get("skills"), options.tags, options.skills, options.capabilities]
    tags: dict[str, dict[str, Any]] = {}
    for tag in [tag for source in sources for tag in source or []]:
        entry = tag if isinstance(tag, dict) else {"id": str(tag), "name": str(tag)}
        tags.setdefault(str(entry.get("id", entry.get("name", ""))), entry)
    return {**card, "tags": list(tags.values())}
