"""What a worker and the hub say to each other: connect, claims, reports, heartbeats."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from blocks_worker.protocol.codec import Wire
from blocks_worker.protocol.control import PROTOCOL_VERSION, Epoch, StartTask
from blocks_worker.protocol.steps import REPORT_STEPS, Step
from blocks_worker.protocol.tasks import MAX_REASON, MAX_SECONDS, BillingMode, Delivery

#: Longest error text that is kept of a run, in bytes as JSON: with it the terminal event fits one envelope.
MAX_ERROR = 8 * 1024

#: With which events are refused, and a run fails, that are more than one run may store.
EVENT_QUOTA: Literal["event_quota"] = "event_quota"

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class Numbers(Wire, omit_defaults=False):
    """The hub's numbers that bind a worker. Seconds, unless the name says otherwise."""

    #: time between two heartbeats, ±20 %, never above a third of `lease_ttl`; a worker may ask for less
    heartbeat_interval: float = 5.0
    #: silence after which leases end, together with `lease_grace`
    lease_ttl: float = 30.0
    #: so long before `lease_ttl` the worker calls its leases suspect; it goes on and logs it
    lease_margin: float = 5.0
    #: added before the hub ends leases
    lease_grace: float = 5.0
    #: an offer that nobody claimed goes back to the queue; a worker claims no older one
    offer_timeout: float = 6.0
    #: an offer that brings its lease along is claimed all the same when it is older than this
    granted_max_age: float = 3.0
    #: from the cancel flag to the forced end; the worker gives the handler as much
    cancel_grace: float = 30.0
    #: the same for terminate, which shortens the grace of a cancel on its way
    terminate_grace: float = 5.0
    #: from the end of a pipe's time to its forced end
    expire_grace: float = 30.0
    #: told to workers; what binds a run is the task's own, else the agent's `maxRunningTimeSec`
    max_runtime: float = 3600.0
    #: leases lost before the task fails with `lease_lost`
    max_lost: int = 3
    #: bytes of the largest start body that travels inside an offer
    inline_input: int = 8192
    #: events that one run may store; 0: any number
    run_events: int = 0
    #: bytes of them
    run_event_bytes: int = 0


class Process(Wire):
    """Which process an instance lives in, so that a hub on the same host sees it die."""

    host: str
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    #: When the process started, in the host's own units: with the pid it names one process.
    started: str


class ConnectRequest(Wire):
    """Register one process life of an instance."""

    agent_name: str
    instance_id: str
    incarnation: str
    billing_mode: BillingMode | None = None
    listing: Literal["public", "private"] | None = None
    description: str | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    expected_instances: _Count = 1
    max_pending_backlog: _Count = 10_000
    max_running_time_sec: Annotated[int, msgspec.Meta(ge=1, le=MAX_SECONDS)] = 3600
    #: Seconds within which each run of a request has to say something; none unless told.
    progress_timeout_sec: Annotated[int, msgspec.Meta(ge=1, le=MAX_SECONDS)] | None = None
    delivery: Delivery = "at_least_once"
    #: Tasks of the agent that all its instances together may have at once.
    concurrency_limit: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    started_at: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    protocol_versions: list[str] = msgspec.field(default_factory=lambda: [PROTOCOL_VERSION])
    preferred_protocol_version: str = PROTOCOL_VERSION
    sdk_language: str = "python"
    sdk_version: str = ""
    device_os: str = ""
    card: dict[str, Any] | None = None
    #: As `listing`: taken when the registry row is made.
    card_ref: str | None = None
    card_summary: str | None = None
    process: Process | None = None
    #: Who listens on the network, when that is not `instance_id`.
    user_id: str | None = None


class ConnectAnswer(Wire, omit_defaults=False):
    """What an instance needs to work. Lives are in seconds."""

    access_token: str
    refresh_token: str
    expires_in: float
    pam_token: str
    pam_expires_in: float
    agent_id: str
    control_channel: str
    #: Key of the signatures on control messages.
    message_key: str
    numbers: Numbers
    hub_time: int
    #: The agent's: it decides on which keyset of the network the hub speaks.
    billing_mode: BillingMode = "free"


class RefreshRequest(Wire):
    """Trade a refresh token for a new pair."""

    refresh_token: str


class RefreshAnswer(Wire, omit_defaults=False):
    """A new pair of tokens and a new channel grant."""

    access_token: str
    refresh_token: str
    expires_in: float
    pam_token: str
    pam_expires_in: float


class ConsumerTokenRequest(Wire):
    """Trade an API key for a consumer's tokens; a key that is not here is the bearer."""

    api_key: str | None = None


class ConsumerToken(Wire, omit_defaults=False):
    """A consumer's tokens, and the channel on which all its tasks speak to it."""

    access_token: str
    refresh_token: str
    expires_in: float
    token: str
    user_id: str
    session_channel: str
    pam_token: str
    pam_expires_in: float


class HeldTask(Wire):
    """One task in one epoch."""

    task_id: str
    epoch: Epoch
    #: It takes no slot: it waits for its resume, or is a pipe whose handler has returned.
    parked: bool = False


class CancelFlag(Wire):
    """The task is to stop, and why; or, among those that expire, its time is over, and which."""

    task_id: str
    epoch: Epoch
    reason: str | None = None


class PauseFlag(Wire, omit_defaults=False):
    """Whether the task is to wait; the highest `pause_seq` counts."""

    task_id: str
    epoch: Epoch
    pause: bool
    pause_seq: int


class Claim(Wire):
    """Take an offered task, or refuse it with a reason."""

    task_id: str
    epoch: Epoch
    #: Digest of the start body that came with the offer: the answer then leaves it out.
    have: str | None = None
    nack: str | None = None


class ClaimAnswer(Wire, omit_defaults=False):
    """The right to run. `start` is left out when the worker has it already."""

    task_id: str
    epoch: int
    lease: str
    attempt: int
    digest: str
    #: Seconds that this run may take.
    max_runtime: float
    #: Seconds within which it has to say something each time.
    progress_timeout: float | None = None
    start: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    #: What runs before this one stored; left out when that is nothing, null when it is too much for here.
    steps: list[Step] | None | msgspec.UnsetType = msgspec.UNSET
    #: Unix milliseconds by the hub's clock at which the whole task ends.
    deadline: int | None = None
    #: The same for the duration of a pipe.
    expires_at: int | None = None
    #: `at_most_once`: the outcome is written to disk before it is sent, for there is no other run.
    delivery: Delivery = "at_least_once"
    cancel: bool = False
    expire: bool = False
    reason: str | None = None
    pause: bool = False
    pause_seq: int = 0


class ReportEvent(Wire):
    """One durable event: its place in the epoch, and its fields as the bytes of a JSON object."""

    n: Annotated[int, msgspec.Meta(ge=1)]
    body: msgspec.Raw


class Outcome(Wire):
    """How a run ended. `digest` makes a repeated outcome a replay."""

    #: `expired`: the time of a pipe is over; `reason` says which, `duration_expired` or `deadline`.
    state: Literal["completed", "failed", "canceled", "expired"]
    last_n: Annotated[int, msgspec.Meta(ge=0)]
    digest: Annotated[str, msgspec.Meta(min_length=16, max_length=128)]
    error: Annotated[str, msgspec.Meta(max_length=16_384)] | None = None
    error_code: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)] | None = None


class Report(Wire):
    """What a run has to say under its lease: steps, events, and at the end its outcome, or that it is given back."""

    task_id: str
    epoch: Epoch
    lease: str
    #: Kept first, each unless there is one of its name.
    steps: Annotated[list[Step], msgspec.Meta(max_length=REPORT_STEPS)] = []
    events: list[ReportEvent] = []
    outcome: Outcome | None = None
    release: bool = False


class LateReport(Wire):
    """What a process that died had to say: its report, and the incarnation whose lease the report carries."""

    incarnation: str
    report: Report


class ReportAnswer(Wire, omit_defaults=False):
    """How the task stands after a report. 409: fenced. 422: `expected_n` is the next number to send."""

    task_id: str
    epoch: int
    state: str
    expected_n: int | None = None
    #: What is stored under the names that the report has; left out where it has none.
    steps: list[Step] | msgspec.UnsetType = msgspec.UNSET
    cancel: bool = False
    expire: bool = False
    reason: str | None = None
    pause: bool = False
    pause_seq: int = 0


class Heartbeat(Wire):
    """Say that the instance lives, what it holds and how much room it has. Renews every lease."""

    held: list[HeldTask] = []
    free: _Count = 0
    active_tasks: _Count = 0
    active_streams: _Count = 0
    draining: bool = False
    #: Its process is short of something: it takes nothing new for now.
    degraded: bool = False
    #: The instance ends with this beat.
    stopped: bool = False
    nonce: str | None = None
    #: Release of the worker's package.
    sdk_version: Annotated[str, msgspec.Meta(max_length=64)] = ""


class HeartbeatAnswer(Wire, omit_defaults=False):
    """All flags again: offers that stand, tasks to stop, tasks that are no longer this instance's."""

    hub_time: int
    #: The nonce which the hub has just sent by the bus.
    nonce: str
    offers: list[StartTask] = []
    cancels: list[CancelFlag] = []
    #: Pipes whose time is over.
    expires: list[CancelFlag] = []
    #: Whoever was ever paused, as it is now.
    pauses: list[PauseFlag] = []
    fenced: list[HeldTask] = []
    drain: bool = False
