"""What consumers and the hub say to each other about tasks: the bodies of requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from blocks_worker.protocol.codec import Wire

_Body = TypeVar("_Body")
BillingMode = Literal["free", "paid"]
TaskKind = Literal["request", "pipe"]
Delivery = Literal["at_least_once", "at_most_once"]

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
#: Longest time that anything may be given, in seconds: a year.
MAX_SECONDS = 31_536_000
#: Longest reason of a cancel, in characters.
MAX_REASON = 1024

#: Longest life of a pipe in minutes: 30 days.
MAX_DURATION = 43_200

#: Calls within calls, at most: a task that nobody's task asked for has the depth 0.
MAX_DEPTH = 8
#: What a call is refused with that would be one more.
TOO_DEEP: Literal["call_depth_exceeded"] = "call_depth_exceeded"

#: Most runs that a policy may ask for, and most error codes that it may name.
MAX_ATTEMPTS = 100
MAX_CODES = 32
#: Never run again, whatever a policy says: the same input stays wrong.
NEVER_AGAIN: Literal["invalid_input"] = "invalid_input"

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)]

_Pause = Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]
_Moment = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]

#: How urgent a task is, 0 to 9; and the head start that each level has in the queue, so that nothing waits for ever.
MAX_PRIORITY, USUAL_PRIORITY, LEVEL_MS = 9, 5, 60_000

#: Most items of one batch.
MAX_BATCH = 256


#: Why the hub gave a task up: all runs of its policy failed; it lost `max_lost` leases, so it may kill its workers; its
#: lease was lost, and it may not be run again; it waited too long for its first run.
DeadReason = Literal["attempts", "poison", "lease_lost", "queue_ttl"]


class RetryPolicy(Wire, omit_defaults=False):
    """When a task whose run failed is run again by the hub, after a pause that doubles each time.

    Of each pause the upper half is drawn, so that tasks that failed together do not run again together.
    """

    #: Runs in all that may fail before the task does.
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=MAX_ATTEMPTS)] = 1
    #: Seconds before the second run, and at most before any.
    initial_delay_sec: _Pause = 1.0
    max_delay_sec: _Pause = 60.0
    #: Error codes that are worth another run; `handler_error` alone unless told.
    retry_on: Annotated[list[str], msgspec.Meta(max_length=MAX_CODES)] | None = None


def _no_parts() -> msgspec.Raw:
    """Return the parts of who sends none; as a value of its own the default could not stand in a schema."""
    return msgspec.Raw(b"[]")


class SubmitTask(Wire):
    """Ask for a task. `request_parts` stays as the bytes that came."""

    agent_name: _Name
    billing_mode: BillingMode = "free"
    request_parts: msgspec.Raw = msgspec.field(default_factory=_no_parts)
    task_id: str | None = None
    idempotency_key: _Key | None = None
    owner_id: str | None = None
    task_kind: TaskKind = "request"
    duration: int | None = None
    stream: bool | None = None
    consumer_public_key: str | None = None
    metadata: dict[str, Any] | None = None
    request_summary: str = ""
    parent_task_id: str | None = None
    delivery: Delivery | None = None
    #: Seconds that one run may take.
    max_runtime: _Seconds | None = None
    #: Seconds within which a run of a request has to say something each time: a status, an event, an artifact.
    progress_timeout: _Seconds | None = None
    #: Unix milliseconds at which the whole task ends, whatever its state.
    deadline: int | None = None
    #: Seconds that the task may wait for its first lease, once it may begin.
    queue_ttl: _Seconds | None = None
    #: Seconds before which the task is offered to nobody, from the moment that the hub takes it in.
    delay: _Pause | None = None
    #: The same as a moment, in unix milliseconds.
    not_before: _Moment | None = None
    #: 0 waits longest, 9 shortest: each level is a head start of a minute.
    priority: Annotated[int, msgspec.Meta(ge=0, le=MAX_PRIORITY)] = USUAL_PRIORITY
    retry_policy: RetryPolicy | None = None


#: As whom a task is looked at: who sent it, or the owner of its agent.
TaskRole = Literal["consumer", "provider"]
#: What a queued task waits for.
WaitsFor = Literal["instance", "room", "limit", "delay", "retry"]


class SubmitAnswer(Wire, omit_defaults=False):
    """Say that the task is in the ledger."""

    task_id: str
    state: str
    owner_id: str
    org_id: str
    status_channel: str
    #: The task was there already, under the same key.
    idempotent: bool = False
    #: No instance has room for it now: it waits.
    queued: bool = False
    #: `instance`: none of the agent runs; `room`: all that run have their slots full; `limit`: the agent has as many as
    #: it may; `delay`: it is not to begin yet; `retry`: a run failed, and the pause before the next one is not over.
    waits_for: WaitsFor | None = None


class TaskRow(Wire, omit_defaults=False):
    """A task as its owner sees it. Times are unix milliseconds."""

    task_id: str
    agent_name: str
    owner: str
    state: str
    created_time: int
    updated_time: int
    attempt: int
    epoch: int
    last_n: int
    queued: bool = False
    #: `instance`: none of the agent runs; `room`: all that run have their slots full; `limit`: the agent has as many as
    #: it may; `delay`: it is not to begin yet; `retry`: a run failed, and the pause before the next one is not over.
    waits_for: WaitsFor | None = None
    ended_time: int | None = None
    cancel_requested: bool = False
    task_kind: TaskKind = "request"
    #: When the time of a pipe is over; fixed with its first lease.
    expires_at: int | None = None
    #: The pause flag, whether it is obeyed or not, and how often it was turned.
    pause: bool = False
    pause_seq: int = 0
    error: str | None = None
    error_code: str | None = None
    reason: str | None = None
    #: Why a task that is completed has no result: `duration_expired`.
    completion_reason: str | None = None
    parent_task_id: str | None = None
    #: The task that was sent again as this one.
    retry_of: str | None = None
    #: When the task may begin that was sent with a delay, or the next run after one that failed; while that is to come.
    ready_at: int | None = None
    priority: int = USUAL_PRIORITY
    #: When the whole task ends, whatever its state.
    deadline: int | None = None
    #: When it ends that has not begun; cleared with the first lease.
    queue_until: int | None = None
    #: Why the hub gave the task up: it is a dead letter.
    dead_reason: DeadReason | None = None
    #: What the task asks, while it is ``input-required``.
    question: OpenQuestion | None = None


class TaskPage(Wire, omit_defaults=False):
    """One page of tasks, newest first; `next` is the cursor of the page after it."""

    tasks: list[TaskRow]
    next: str | None
    #: Of all pages; left out for who has more tasks than are counted.
    total_count: int | None = None


class CancelTask(Wire):
    """Ask that a task stop."""

    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)] | None = None
    terminated: bool = False


class CancelAnswer(Wire, omit_defaults=False):
    """Say how the task stands after a cancel was taken in."""

    task_id: str
    state: str
    #: The task had ended before: nothing was changed.
    already_ended: bool = False


class RetryTask(Wire):
    """Send a task that failed or was canceled again; the same `task_id`, or the same key, again makes one new task."""

    #: Of the new task; the hub draws one when none is given.
    task_id: str | None = None
    #: The new task's: under one key a task is sent again once.
    idempotency_key: _Key | None = None
    #: The new one begins with the stored steps of the old one; else it does each of them again.
    keep_steps: bool = True
    #: What was answered to the questions of the old one counts for the new one.
    keep_answers: bool = True


class AnswerTask(Wire):
    """Answer the question that a task has open."""

    ask_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    #: Any JSON; it has to fit the schema of the question, if that has one.
    value: msgspec.Raw


class AnswerAnswer(Wire, omit_defaults=False):
    """Say what stands as the answer to a question."""

    task_id: str
    ask_id: str
    state: str
    value: msgspec.Raw
    #: It was answered so before: nothing was changed.
    already: bool = False


class OpenQuestion(Wire, omit_defaults=False):
    """A question of a task that nobody has answered yet."""

    ask_id: str
    question: str
    #: Unix milliseconds at which the run, or the hub without one, waits no more.
    until: int
    schema: dict[str, Any] | None = None


class PurgedTask(Wire, omit_defaults=False):
    """What stays of a task that was purged. Times are unix milliseconds."""

    task_id: str
    agent_name: str
    state: str
    ended_time: int
    purged_time: int
    #: `owner`, or `retention` when its time was over.
    purged_by: str
    #: Of its outcome, as its worker reported it.
    digest: str | None = None


class PauseTask(Wire):
    """Set or clear the pause flag, as long as it was turned no more often than the caller knows."""

    pause_seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class EventsQuery(Wire):
    """Ask for the stored events of a task after a sequence number.

    `listen`: what is stored after this answer is also to be said on the caller's session channel, with the keys
    of this billing mode, which are those that the caller listens with.
    """

    task_id: str
    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    listen: BillingMode | None = None
    role: TaskRole = "consumer"


class EventsAnswer(Wire, omit_defaults=False):
    """The stored events after a sequence number, in order, and the task's row of the same moment."""

    task: TaskRow
    events: list[msgspec.Raw]
    #: More events are stored than this answer holds: ask again from the last `seq`.
    more: bool = False


class ItemAnswer(Wire, omit_defaults=False):
    """One answer of a batch: its own HTTP status and body."""

    status: int
    body: msgspec.Raw


class ItemAnswerOf(Wire, Generic[_Body]):
    """One answer of a batch, with the body that was asked for."""

    status: int
    body: _Body


class Problem(Wire, omit_defaults=False):
    """Why a request was refused; `code` is a fixed word, `message` a sentence for people."""

    code: str
    message: str
    details: dict[str, Any] | None = None


class ReadTokenRequest(Wire):
    """Ask for a grant to read one task's channel."""

    task_id: str
    role: TaskRole = "consumer"


class ReadToken(Wire, omit_defaults=False):
    """A grant to read one task's channel, with what a plain client of the network needs beside it."""

    pam_token: str
    channel: str
    ttl_minutes: int
    subscribe_key: str
    publish_key: str
