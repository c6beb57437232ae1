"""What a task is asked for with, checked before anything is sent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict, get_args

import msgspec

from blocks_worker.client.moments import delay_of, unix_ms
from blocks_worker.client.parts import travelling_parts
from blocks_worker.client.policies import policy_of
from blocks_worker.errors import ConfigurationError, InvalidMessageError, MessageTooLargeError
from blocks_worker.protocol.codec import MAX_BODY, encode, inspect
from blocks_worker.protocol.tasks import (
    MAX_PRIORITY,
    MAX_SECONDS,
    USUAL_PRIORITY,
    BillingMode,
    Delivery,
    SubmitTask,
    TaskKind,
    TaskRole,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import TypeGuard

    from blocks_worker.client.parts import FileKeeper

#: Most bytes of `metadata` as JSON.
MAX_METADATA = 8 * 1024
#: Room for what stands around one item of a batch, in bytes.
_ENVELOPE = 1024
#: Longest life of a pipe in minutes.
_MAX_DURATION = 43_200


@dataclass(frozen=True, kw_only=True)
class SendMessageParams:
    """Say which task is wanted.

    Attributes:
        request_parts: parts, or one text.
        idempotency_key: the same user, key and body give the existing task.
        delivery: ``at_most_once``: never run again once it was begun, whatever happens; None: as the card says.
        duration: whole minutes of a pipe.
        timeout: seconds for the submit; None: the client's.
        metadata: at most 8 KiB as JSON; the handler sees it.
        max_runtime: seconds that one run may take.
        progress_timeout: seconds within which a run has to say something each time, a status, an event or an artifact;
            else the task fails with ``timeout`` and the reason ``progress``.
        deadline: when the task ends whatever its state: a datetime with a zone, or unix milliseconds.
        queue_ttl: seconds that the task may wait for its first run, once it may begin.
        priority: 0 to 9: each level is a head start of a minute in the queue of the agent.
        not_before: the task begins then at the earliest: seconds from now, or a datetime with a zone.
        retry_policy: a dict with ``maxAttempts`` (1: runs in all), ``initialDelaySec`` (1), ``maxDelaySec`` (60) and
            ``retryOn`` (``["handler_error"]``): when the handler failed, the hub has the task run again, after a
            pause drawn from the upper half of the delay, which doubles each time.
        auto_drain: streams that are open when the task ends may end by themselves first; else they are cut.
        drain_window_s: seconds for that.
        parent_task_id: the task for which this one is done: it ends with that one at the latest.
    """

    agent_name: str
    request_parts: Any = field(default_factory=list)
    idempotency_key: str | None = None
    owner_id: str | None = None
    task_kind: TaskKind = "request"
    duration: int | None = None
    stream: bool | None = None
    consumer_public_key: str | None = None
    timeout: float | None = None
    metadata: dict[str, Any] | None = None
    delivery: Delivery | None = None
    deadline: datetime | int | None = None
    queue_ttl: float | None = None
    not_before: float | datetime | None = None
    priority: int = USUAL_PRIORITY
    max_runtime: float | None = None
    progress_timeout: float | None = None
    auto_drain: bool = True
    drain_window_s: float | None = None
    parent_task_id: str | None = None
    retry_policy: Mapping[str, Any] | None = None


class RunOptions(TypedDict, total=False):
    """The keywords of ``run``, for type checkers: the fields of `SendMessageParams` that are not its own."""

    idempotency_key: str | None
    owner_id: str | None
    task_kind: TaskKind
    duration: int | None
    stream: bool | None
    consumer_public_key: str | None
    metadata: dict[str, Any] | None
    delivery: Delivery | None
    deadline: datetime | int | None
    queue_ttl: float | None
    not_before: float | datetime | None
    priority: int
    max_runtime: float | None
    progress_timeout: float | None
    auto_drain: bool
    drain_window_s: float | None
    parent_task_id: str | None
    retry_policy: Mapping[str, Any] | None


class SendOptions(RunOptions, total=False):
    """The keywords of ``send_message`` besides the agent's name and the parts, for type checkers."""

    timeout: float | None


_TASK_KINDS, _DELIVERIES = get_args(TaskKind), get_args(Delivery)
#: Times in seconds, and the most that each may be.
_SECONDS = (
    ("timeout", math.inf),
    ("queue_ttl", MAX_SECONDS),
    ("max_runtime", MAX_SECONDS),
    ("progress_timeout", MAX_SECONDS),
)
#: What else is of one type, where it is given, and how that is said.
_KINDS: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (str, "a text", ("idempotency_key", "owner_id", "consumer_public_key", "parent_task_id")),
    (bool, "True or False", ("stream",)),
    (dict, "a dict", ("metadata",)),
)
_strict = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_NAMES = frozenset(one.name for one in fields(SendMessageParams))


def params_of(positional: Sequence[object], keywords: Mapping[str, Any]) -> SendMessageParams:
    """Return the parameters of ``send_message`` in any of its forms.

    Those are keywords alone, one `SendMessageParams` or dict, and agent name and parts with keywords.
    """
    if not positional:
        return _made(keywords)
    first, *rest = positional
    if isinstance(first, (SendMessageParams, Mapping)):
        if rest or keywords:
            raise TypeError("send_message takes SendMessageParams or a dict alone, without more arguments")
        return first if isinstance(first, SendMessageParams) else _made(first)
    if not isinstance(first, str) or len(rest) > 1:
        raise TypeError("send_message takes the agent's name and its parts, SendMessageParams, or keywords")
    named = {"agent_name": first, **({"request_parts": rest[0]} if rest else {})}
    twice = sorted(named.keys() & keywords.keys())
    if twice:
        raise TypeError(f"send_message got {', '.join(twice)} twice")
    return _made({**named, **keywords})


def submission(
    params: SendMessageParams,
    *,
    task_id: str,
    billing_mode: BillingMode,
    idempotency_key: str | None,
    inline_limit: int,
    keep: FileKeeper,
) -> tuple[SubmitTask, int]:
    """Return the body that asks for the task, and its size in bytes; `keep` stores its large files.

    Raises:
        FileUploadError: a large file could not be stored.
        TypeError: a parameter is of another type.
        ValueError: a parameter does not fit; `MessageTooLargeError` when it is all too much.
    """
    _check(params)
    delay, not_before = delay_of(params.not_before)
    deadline = None if params.deadline is None else unix_ms("deadline", params.deadline)
    retry_policy = None if params.retry_policy is None else policy_of(params.retry_policy)
    # Last: it stores files, which nobody needs where something else is refused.
    parts = _json(travelling_parts(params.request_parts, inline_limit=inline_limit, keep=keep), "request_parts")
    body = SubmitTask(
        agent_name=params.agent_name,
        billing_mode=billing_mode,
        request_parts=msgspec.Raw(parts),
        task_id=task_id,
        idempotency_key=idempotency_key,
        owner_id=params.owner_id,
        task_kind=params.task_kind,
        duration=params.duration,
        stream=params.stream,
        consumer_public_key=params.consumer_public_key,
        metadata=params.metadata,
        delivery=params.delivery,
        max_runtime=params.max_runtime,
        progress_timeout=params.progress_timeout,
        deadline=deadline,
        parent_task_id=params.parent_task_id,
        queue_ttl=params.queue_ttl,
        delay=delay,
        not_before=not_before,
        priority=params.priority,
        retry_policy=retry_policy,
    )
    encoded = encode(body)
    if len(encoded) > MAX_BODY - _ENVELOPE:
        raise MessageTooLargeError(len(encoded), MAX_BODY - _ENVELOPE)
    # What the hub would refuse is refused here, where the caller sees it alone and not with a whole batch.
    inspect(encoded)
    return body, len(encoded)


def _made(keywords: Mapping[str, Any]) -> SendMessageParams:
    unknown = [str(name) for name in keywords if name not in _NAMES]
    if unknown:
        told = ", ".join(sorted(unknown))
        raise TypeError(f"send_message does not know {told}; it takes {', '.join(sorted(_NAMES))}")
    return SendMessageParams(**keywords)


def _check(params: SendMessageParams) -> None:
    if not params.agent_name or not isinstance(params.agent_name, str):
        raise ValueError("agent_name is the name of an agent, such as 'echo'")
    if params.task_kind not in _TASK_KINDS:
        raise ValueError(f"task_kind is 'request' or 'pipe', not {params.task_kind!r}")
    _check_kinds(params)
    _check_duration(params)
    if params.delivery is not None and params.delivery not in _DELIVERIES:
        raise ValueError(f"delivery is {' or '.join(map(repr, _DELIVERIES))}, not {params.delivery!r}")
    if params.retry_policy is not None and params.task_kind == "pipe":
        raise ValueError("retry_policy is for requests: a pipe is not run again, for its streams cannot go on")
    if params.metadata is not None and len(_json(params.metadata, "metadata")) > MAX_METADATA:
        raise InvalidMessageError("too_large", f"metadata may be {MAX_METADATA} bytes as JSON")
    check_drain_window(params.drain_window_s)
    _check_priority(params.priority)
    if params.progress_timeout is not None and params.task_kind == "pipe":
        raise ValueError("progress_timeout is for requests: a pipe may be silent as long as it lasts")
    for name, most in _SECONDS:
        value = getattr(params, name)
        if value is not None:
            _check_seconds(name, value, most)


def _check_kinds(params: SendMessageParams) -> None:
    for kind, told, names in _KINDS:
        for name in names:
            value = getattr(params, name)
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} is {told}, or None, not {value!r}")


def _check_seconds(name: str, value: object, most: float) -> None:
    told = f"{name} is a number of seconds above 0{'' if math.isinf(most) else f' and at most {most}'}, not {value!r}"
    if not _is_number(value):
        raise TypeError(told)
    if not 0 < value <= most:
        raise ValueError(told)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_priority(priority: object) -> None:
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
        raise ValueError(f"priority is a whole number, 0 to {MAX_PRIORITY} for the most urgent, not {priority!r}")


def check_drain_window(seconds: float | None) -> None:
    """Refuse what is no time.

    Raises:
        TypeError: it is no number.
        ValueError: it is below zero.
    """
    if seconds is None:
        return
    told = f"drain_window_s is a number of seconds of zero or more, not {seconds!r}"
    if not _is_number(seconds):
        raise TypeError(told)
    if not seconds >= 0:
        raise ValueError(told)


def checked_role(role: str) -> TaskRole:
    """Return the role in which a task is looked at.

    Raises:
        ConfigurationError: there is no such role.
    """
    for known in get_args(TaskRole):
        if role == known:
            return known  # type: ignore[no-any-return]  # one of the words of the type
    raise ConfigurationError(f"role is 'consumer' or 'provider', not {role!r}")


def _json(value: object, name: str) -> bytes:
    """Return a caller's value as JSON; what JSON cannot carry is refused, not changed (NaN to null, say)."""
    try:
        return _strict.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessageError("not_json", f"{name} cannot be written as JSON: {error}") from error


def _check_duration(params: SendMessageParams) -> None:
    duration = params.duration
    if params.task_kind == "request":
        if duration is not None:
            raise ValueError("duration belongs to a pipe; a request has max_runtime")
        return
    if isinstance(duration, bool) or not isinstance(duration, int) or not 1 <= duration <= _MAX_DURATION:
        raise ValueError(f"a pipe needs its duration in whole minutes, 1 to {_MAX_DURATION}")
