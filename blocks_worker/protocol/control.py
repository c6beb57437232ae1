"""Control messages: what the hub says to one instance on the bus.

They are doorbells. Each travels signed, as `Signed`, and each has a row in the ledger that the next
heartbeat answer tells of again.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import Wire, convert, decode_trusted
from blocks_worker.protocol.tasks import TaskKind

PROTOCOL_VERSION = "1"

#: The fencing number of a task: it only grows.
Epoch = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]


class StartBody(Wire):
    """The task as the handler gets it: the same bytes for every run, so that a digest can name them."""

    agent_name: str
    owner_id: str
    org_id: str
    request_parts: msgspec.Raw = msgspec.Raw(b"[]")
    task_kind: TaskKind = "request"
    duration: int | None = None
    duration_expires_at_ms: int | None = None
    caller_claims: dict[str, Any] = {}
    request_summary: str = ""
    consumer_public_key: str | None = None
    has_stream: bool = False
    metadata: dict[str, Any] = {}
    parent_task_id: str | None = None


class GrantedLease(Wire):
    """The right to run that comes with an offer: what else the answer to a claim would bring."""

    lease: str
    attempt: int
    #: Seconds that this run may take.
    max_runtime: float
    #: Unix milliseconds by the hub's clock: when it was given, and when the whole task ends.
    hub_time: int
    deadline: int | None = None
    #: Seconds within which it has to say something each time.
    progress_timeout: float | None = None


class StartTask(Wire, tag_field="type", tag="StartTask"):
    """Offer a task. `start` is a `StartBody` as JSON text, when it is short enough to travel along.

    With `granted` the task is the instance's already, and it starts at once, unless the offer is old.
    """

    task_id: str
    epoch: Epoch
    digest: str
    start: str | None = None
    granted: GrantedLease | None = None
    protocol_version: str = PROTOCOL_VERSION


class WithdrawOffer(Wire, tag_field="type", tag="WithdrawTask"):
    """Say that an offer stands no more: another instance took the task, or nobody gets it now."""

    task_id: str
    epoch: Epoch
    protocol_version: str = PROTOCOL_VERSION


class CancelRun(Wire, tag_field="type", tag="CancelTask"):
    """Ask that the run of a task stop."""

    task_id: str
    epoch: Epoch
    reason: str | None = None
    protocol_version: str = PROTOCOL_VERSION


class ExpireRun(Wire, tag_field="type", tag="ExpireTask"):
    """Say that the time of a task is over; `reason` is which."""

    task_id: str
    epoch: Epoch
    agent_name: str = ""
    reason: str | None = None
    protocol_version: str = PROTOCOL_VERSION


class PauseRun(Wire, tag_field="type", tag="PauseTask"):
    """Ask that the run of a task wait; the highest `pause_seq` counts."""

    task_id: str
    epoch: Epoch
    pause_seq: int
    protocol_version: str = PROTOCOL_VERSION


class ResumeRun(Wire, tag_field="type", tag="ResumeTask"):
    """Ask that the run of a task go on; the highest `pause_seq` counts."""

    task_id: str
    epoch: Epoch
    pause_seq: int
    protocol_version: str = PROTOCOL_VERSION


class AnswerRun(Wire, tag_field="type", tag="AnswerTask"):
    """Bring the run of a task what was answered to its question; ``null`` text: it is too long to travel along."""

    task_id: str
    epoch: Epoch
    ask_id: str
    #: The value as JSON text.
    value: str | None = None
    protocol_version: str = PROTOCOL_VERSION


class Probe(Wire, tag_field="type", tag="Probe"):
    """Prove that the bus reaches the worker: the next heartbeat tells the nonce back."""

    nonce: str
    protocol_version: str = PROTOCOL_VERSION


class Drain(Wire, tag_field="type", tag="Drain"):
    """Ask the instance to finish what it has and end."""

    reason: str | None = None
    protocol_version: str = PROTOCOL_VERSION


ControlMessage = StartTask | WithdrawOffer | CancelRun | ExpireRun | PauseRun | ResumeRun | AnswerRun | Probe | Drain


class Signed(Wire):
    """One control message as JSON text, its number, and a signature over both."""

    control: str
    sequence: int
    signature: str


def sign(control: bytes, sequence: int, key: str) -> Signed:
    """Return the message signed with the instance's message key."""
    return Signed(control=control.decode(), sequence=sequence, signature=_signature(control, sequence, key))


def open_signed(body: dict[str, Any], key: str) -> tuple[int, ControlMessage]:
    """Return number and content of a signed control message.

    Raises:
        InvalidMessageError: `reason` is ``shape``, ``signature`` or ``unsupported``.
    """
    signed = convert(Signed, body)
    control = signed.control.encode("utf-8", errors="replace")
    if not hmac.compare_digest(
        signed.signature.encode("utf-8", errors="replace"), _signature(control, signed.sequence, key).encode()
    ):
        raise InvalidMessageError("signature", "the signature is not the hub's")
    return signed.sequence, _content(control)


def _content(control: bytes) -> ControlMessage:
    try:
        return decode_trusted(ControlMessage, control)  # type: ignore[arg-type]  # a union is a type here
    except InvalidMessageError as error:
        if "Invalid value" in str(error):
            raise InvalidMessageError("unsupported", f"unknown control message: {error}") from error
        raise


def _signature(control: bytes, sequence: int, key: str) -> str:
    return hmac.digest(key.encode(), b"%d." % sequence + control, "sha256").hex()
