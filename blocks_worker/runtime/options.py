"""What a provider may say of an instance, and every check of it before anything is started."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from blocks_worker.config import TRANSPORTS
from blocks_worker.errors import CardError, ConfigurationError
from blocks_worker.handlers.base import Handler
from blocks_worker.handlers.registry import check_agent_name
from blocks_worker.protocol.cards import Card, CardFindings, card_errors, check_card
from blocks_worker.protocol.channels import INSTANCE
from blocks_worker.protocol.tasks import MAX_SECONDS
from blocks_worker.worker.middleware.base import Middleware
from blocks_worker.worker.override import override

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.concurrency import Entropy
    from blocks_worker.context.messages import StartTaskMessage

#: Slots of an instance that asked for no limit.
UNLIMITED_SLOTS = 64
_MOST_SLOTS = 4096
#: Bounds of the heartbeat interval, in milliseconds.
_SHORTEST_BEAT = 1000
_LONGEST_BEAT = 60_000


@dataclass(kw_only=True)
class AgentInstanceOptions:
    """Say what an instance is.

    Attributes:
        agent_name: letters, digits and underscores; default: the card's ``identity.agentName``.
        handler: the function that does a task: ``handler(task)`` or ``handler(task, ctx)``.
        card: agent card; None or empty: a minimal one is made from these options.
        description: text for people, in the made card and the registry.
        capabilities: each becomes a tag; together with the card's tags, `tags` and `skills`, each id once.
        tags: texts, or dicts with ``id`` and ``name``; `skills` is another name of it.
        skills: see `tags`.
        concurrency: tasks at the same time; 0: no limit asked for, which is 64.
        expected_instances: how many are to be there, for the registry; 0: each task is offered to all that
            have room at once, and runs where it is taken first.
        concurrency_limit: tasks that all instances of the agent together may have at once; None: the card's, else none.
        max_pending_backlog: tasks that may wait in the hub; more are refused.
        max_running_time_sec: limit of one run, in seconds, at most a year; wins over the card's.
        progress_timeout_sec: seconds within which each run of a request has to say something (a status, an event, an
            artifact), or it is failed; None: the card's, else no such limit.
        heartbeat_ms: heartbeat interval in milliseconds, brought into 1000..60000.
        instance_id: a stable name; a new process under the same name supersedes the old one.
        pubnub: a ready client of the PubNub SDK: its keys, origin and user id are used, and no document is looked for.
            It is never stopped here.
        token: a grant for the control channel to begin with; later ones come from the hub.
        user_id: kept as `AgentInstance.user_id`.
        on_start_task: ``(task, pubnub)`` in place of the handler: what it publishes on the task's channel is reported,
            and the terminal event is its to publish. See `TaskPubNub`.
        on_cancel_task: ``(task_id, pubnub)``, called in place of setting a run's cancel event.
        on_error: called with (task_id, exception) when a handler raises.
        card_ref: stored when the registry row is made, as `card_summary` and `listing`; later the row counts.
        card_summary: see `card_ref`.
        listing: ``public`` or ``private``; None: private, and public in a hub of this machine.
        base_url: where the hub is; None: as the document says.
        cdm_url: where the document is that says where hub and network are.
        artifact_base_path: without effect, as `log_channel`; known so that existing options can be passed on.
        log_channel: see `artifact_base_path`.
        agent: a `Handler` or another callable object, in place of `handler`.
        transport: ``pubnub`` or ``hublink``; None: as ``BLOCKS_TRANSPORT``, else the document, says.
        on_fatal: called with the exception when the instance cannot go on.
        middleware: hooks that are told of each run's begin, cancel and end: objects of classes below `Middleware`, in
            `blocks_worker.worker.middleware.base`.
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
    concurrency_limit: int | None = None
    max_pending_backlog: int | None = None
    max_running_time_sec: int | None = None
    progress_timeout_sec: int | None = None
    heartbeat_ms: int = 5000
    instance_id: str | None = None
    pubnub: Any = None
    token: str | None = field(default=None, repr=False)
    user_id: str | None = None
    on_start_task: Callable[[StartTaskMessage, Any], object] | None = None
    on_cancel_task: Callable[[str, Any], object] | None = None
    on_error: Callable[[str, BaseException], None] | None = None
    card_ref: str | None = None
    card_summary: str | None = None
    listing: str | None = None
    base_url: str | None = None
    cdm_url: str | None = None
    artifact_base_path: str | None = None
    log_channel: str | None = None
    agent: Any = None
    transport: str | None = None
    on_fatal: Callable[[BaseException], None] | None = None
    middleware: Sequence[Middleware] = ()
    drain_timeout: float | None = None
    strict_results: bool = False
    embedded_hub: bool | None = None


@dataclass(frozen=True)
class Note:
    """What is said of the options at the start: a level of `logging`, an event, and why."""

    level: int
    event: str
    reason: str


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
    concurrency_limit: int | None
    max_running_time_sec: int
    progress_timeout_sec: int | None
    delivery: str
    heartbeat_interval: float
    drain_timeout: float | None
    listing: str | None
    declared: Card
    findings: CardFindings
    notes: list[Note]


def options_of(given: object) -> AgentInstanceOptions:
    """Return options from options or from a dict with the same keys.

    Raises:
        ValueError: neither, or a key that is no option.
    """
    if isinstance(given, AgentInstanceOptions):
        return given
    if not isinstance(given, dict):
        raise ConfigurationError(f"options must be AgentInstanceOptions or a dict, not {type(given).__name__}")
    known = {each.name for each in fields(AgentInstanceOptions)}
    unknown = sorted(map(repr, set(given) - known))
    if unknown:
        raise ConfigurationError(f"unknown option {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return AgentInstanceOptions(**given)


def plan(options: AgentInstanceOptions, entropy: Entropy) -> InstancePlan:
    """Return the plan of the instance, or say which option is wrong.

    Raises:
        ValueError: an option or a card key, named in the text.
        TypeError: the handler cannot be called with a task.
    """
    _one_of("transport", options.transport, TRANSPORTS)
    _check_middleware(options.middleware)
    card, findings = _card(options.card)
    agent_name = _agent_name(options.agent_name or _read(card, "identity.agentName", str, None))
    handler = _handler(options, agent_name)
    runtime = _Limits(options, card)
    concurrency = runtime.number("concurrency", 1)
    return InstancePlan(
        agent_name=agent_name,
        handler=handler,
        instance_id=_instance_id(options.instance_id, agent_name, entropy),
        card=_whole_card(card or _made_card(agent_name, options), options),
        description=options.description or _read(card, "identity.description", str, None) or "",
        concurrency=min(concurrency or UNLIMITED_SLOTS, _MOST_SLOTS),
        expected_instances=runtime.number("expected_instances", 1),
        max_pending_backlog=runtime.number("max_pending_backlog", 10_000),
        concurrency_limit=runtime.limit("concurrency_limit"),
        max_running_time_sec=max(1, runtime.number("max_running_time_sec", 3600, most=MAX_SECONDS)),
        progress_timeout_sec=runtime.limit("progress_timeout_sec", most=MAX_SECONDS),
        delivery=_read(card, "runtime.delivery", str, "at_least_once"),
        heartbeat_interval=min(max(_whole("heartbeat_ms", options.heartbeat_ms), _SHORTEST_BEAT), _LONGEST_BEAT) / 1000,
        drain_timeout=_seconds("drain_timeout", options.drain_timeout),
        listing=_one_of("listing", options.listing, ("public", "private")),
        declared=Card(card),
        findings=findings,
        notes=_notes(options, card),
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

    def limit(self, name: str, most: int | None = None) -> int | None:
        """Return a number that is 1 at least; None where neither gives it."""
        number = self.number(name, 0, most)
        if number == 0 and getattr(self._options, name) is not None:
            raise ConfigurationError(f"{name} must be 1 or more, or None for no limit")
        return number or None


def _card(card: object) -> tuple[dict[str, Any], CardFindings]:
    """Return the card with what may be better in it."""
    if card is None or card == {}:
        return {}, CardFindings()
    if not isinstance(card, dict):
        raise ConfigurationError(f"card must be a dict, not {type(card).__name__}; load the JSON file first")
    findings = check_card(card)
    if findings.errors:
        raise CardError("agent card", findings.all)
    return card, findings


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


def _handler(options: AgentInstanceOptions, agent_name: str) -> Handler:
    """Return what does the tasks: the one that was given, of the three ways to give it."""
    if options.on_start_task is not None:
        if not callable(options.on_start_task):
            raise ConfigurationError(f"on_start_task is {type(options.on_start_task).__name__}, which is not callable")
        return Handler.of(override(options.on_start_task, options.pubnub), _named(options.on_start_task))
    function = options.handler if options.agent is None else options.agent
    if options.agent is not None and options.handler is not None:
        raise ConfigurationError("handler and agent are given: choose one of them")
    if function is None:
        raise ConfigurationError(f"agent {agent_name!r} has no handler: give handler=a function of one task")
    if isinstance(function, Handler):
        return function
    if not callable(function):
        raise ConfigurationError(f"handler of agent {agent_name!r} is {type(function).__name__}, which is not callable")
    return Handler.of(function)


def _check_middleware(given: object) -> None:
    listed = given if isinstance(given, (list, tuple)) else [given]
    for each in listed:
        if not isinstance(each, Middleware):
            raise ConfigurationError(f"middleware has {each!r}: give a list of objects whose class is a Middleware")


def _named(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _notes(options: AgentInstanceOptions, card: dict[str, Any]) -> list[Note]:
    """Return what is not taken as it was said."""
    notes: list[Note] = []
    if not _SHORTEST_BEAT <= options.heartbeat_ms <= _LONGEST_BEAT:
        reason = f"heartbeat_ms={options.heartbeat_ms} is brought into {_SHORTEST_BEAT}..{_LONGEST_BEAT}"
        notes.append(Note(logging.WARNING, "heartbeat_changed", reason))
    given, declared = options.max_running_time_sec, _read(card, "runtime.maxRunningTimeSec", int, None)
    if given is not None and declared is not None and given != declared:
        reason = f"max_running_time_sec={given} counts, not the card's {declared}"
        notes.append(Note(logging.INFO, "limit_chosen", reason))
    idle = [name for name in ("artifact_base_path", "log_channel") if getattr(options, name) is not None]
    if idle:
        notes.append(Note(logging.DEBUG, "options_without_effect", f"{', '.join(idle)}: known, and without effect"))
    return notes


def _one_of(name: str, given: object, choices: tuple[str, ...]) -> str | None:
    if given is None:
        return None
    if given not in choices:
        raise ConfigurationError(f"{name}={given!r} is not offered; there is {', '.join(map(repr, choices))}")
    return str(given)


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ConfigurationError(f"{name}={value!r} must be a number of seconds, zero or more")
    return float(value)


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


def _made_card(agent_name: str, options: AgentInstanceOptions) -> dict[str, Any]:
    return {"identity": {"agentName": agent_name, "description": options.description or ""}, "tags": []}


def _whole_card(card: dict[str, Any], options: AgentInstanceOptions) -> dict[str, Any]:
    """Return the card as the hub gets it, which the hub would refuse with the same words."""
    whole = _with_tags(card, options)
    errors = card_errors(whole)
    if errors:
        raise ConfigurationError(
            f"the card with the options description, tags, skills, capabilities: {'; '.join(errors)}"
        )
    return whole


def _with_tags(card: dict[str, Any], options: AgentInstanceOptions) -> dict[str, Any]:
    """Return the card with the tags of all sources, in order, each id once."""
    sources = [card.get("tags"), card.get("skills"), options.tags, options.skills, options.capabilities]
    tags: dict[str, dict[str, Any]] = {}
    for tag in [tag for source in sources for tag in source or []]:
        entry = tag if isinstance(tag, dict) else {"id": str(tag), "name": str(tag)}
        tags.setdefault(str(entry.get("id", entry.get("name", ""))), entry)
    return {**card, "tags": list(tags.values())}
