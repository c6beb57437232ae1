"""The one tree of exceptions; a branch answers what the caller would do.

Long because it is one tree.

    BlocksError
    ├── ConfigurationError (ValueError)            mend the configuration; the text names the key
    │   ├── CardError                              mend the agent card: `findings` name its keys
    │   ├── CardFileError                          mend the card's file, or name another: it is no JSON, or not there
    │   ├── FolderInUseError                       use the hub that runs, or another folder
    │   ├── NotConfiguredError (RuntimeError)      set what is missing; the text names the variable
    │   └── UnknownHandlerError                    choose one of the handlers it names
    ├── InvalidMessageError (ValueError)           mend the request: what travels is not what it should be
    │   └── MessageTooLargeError                   send less, or send a reference
    ├── RpcError                                   the hub said no: `code` and `status` tell what to do
    │   ├── BillingModeMismatchError               open the client in the agent's mode
    │   ├── QuotaExceededError                     one owner's share is used up: `quota` tells of what
    │   └── SomeRefusedError                       of many tasks it took some: `results` tells which
    ├── FileUploadError                            a file could not be stored: `status_code` tells why
    ├── HubUnavailableError (RuntimeError, ConnectionError)   wait, or start a hub
    ├── ForkedProcessError (RuntimeError)          this process was forked: open a client of its own
    ├── AgentAuthFatalError (RuntimeError)         get another key; trying again is no use
    ├── AuthRefreshFailedError (RuntimeError)      the login behind the token has to be mended
    ├── TransportError (ConnectionError)           publish and subscribe: repeat, or give up
    │   ├── TransportClosedError                   it was closed here
    │   ├── PublishRefusedError                    never repeat: refused for good
    │   └── PublishTimeoutError                    unknown: it may have been accepted
    ├── StreamWriteError (RuntimeError)            frames of a stream were lost for good: open another
    ├── StreamUnavailableError (RuntimeError)      the task is over, and nobody opened this stream
    ├── EventQuotaError (RuntimeError)             the run has stored all events that it may: say less
    ├── TaskFinishedError (RuntimeError)           the task is over: stop sending for it
    ├── TaskCancelledError (CancelledError)        the task is to stop: return
    ├── AskTimeoutError (TimeoutError)             nobody answered: go on without, or let the task fail
    ├── TaskFailedError (RuntimeError)             the task failed: `event` is its terminal
    ├── InputError (ValueError)                    the task's input is wrong: never retried
    ├── ArtifactError (ValueError)                 the result cannot travel as it is
    ├── StepError (ValueError)                     mend the step: its name, or what it returns, cannot be stored
    ├── StoreError (RuntimeError)                  the ledger refused: `code` tells why
    └── AnonTaskAccessDenied                       anonymous viewing is not offered

Data stands on the exception, the sentence is made in ``__str__`` or at the raise.
"""

from __future__ import annotations

import reprlib
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.protocol.cards import CardFinding


class BlocksError(Exception):
    """Be the base of every exception that this package lets out."""

    #: Seconds after which to ask again, where the other side said so.
    retry_after: float | None = None


class ConfigurationError(BlocksError, ValueError):
    """Say which setting, file or card field is wrong, and how to mend it."""


class CardError(ConfigurationError):
    """Say what is wrong with an agent card.

    Attributes:
        place: the file, or what else the card is called.
        findings: all that was found, warnings too.
    """

    def __init__(self, place: str, findings: Sequence[CardFinding]) -> None:
        super().__init__(place, findings)
        self.place = place
        self.findings = findings

    def __str__(self) -> str:
        return f"{self.place}: {'; '.join(str(finding) for finding in self.findings if finding.is_error)}"


class CardFileError(ConfigurationError):
    """Say that the file of a card cannot be read, and in which line."""


class FolderInUseError(ConfigurationError):
    """Say that another hub holds the lock of the state folder."""


class NotConfiguredError(ConfigurationError, RuntimeError):
    """Say which setting is missing for what was asked, before anything was sent."""


class UnknownHandlerError(ConfigurationError):
    """Say that no handler has this name, and which ones there are; `hint`: what is there under this name, or nearly."""

    def __init__(self, name: str, available: list[str], hint: str = "") -> None:
        super().__init__(name, available, hint)
        self.name = name
        self.available = available
        self.hint = hint

    def __str__(self) -> str:
        names = ", ".join(self.available) or "none"
        hint = f"; {self.hint}" if self.hint else ""
        return f"no handler named {self.name!r}{hint}; available: {names}. Name one of them, or add it to registry.json"


class InvalidMessageError(BlocksError, ValueError):
    """Say why a message or body was refused.

    Attributes:
        reason: a short fixed word, which is counted.
        text: the sentence.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return self.text


class MessageTooLargeError(InvalidMessageError):
    """Say that a message is `size` bytes where `limit` bytes are allowed."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__("too_large", f"{size} bytes are more than the {limit} allowed; send a reference instead")
        self.size = size
        self.limit = limit


class RpcError(BlocksError):
    """Carry the hub's refusal.

    Attributes:
        rpc_message: the hub's sentence.
        code: the hub's word for the reason, such as ``NotFound``.
        data: what else the hub said.
        status: the HTTP status.
    """

    def __init__(self, rpc_message: str, *, code: str = "", status: int = 0, data: Any = None) -> None:
        super().__init__(rpc_message)
        self.rpc_message = rpc_message
        self.code = code
        self.status = status
        self.data = data if data is not None else {}

    def __str__(self) -> str:
        return f"[RPC] {self.rpc_message}"

    @property
    def details(self) -> Any:
        """What else the hub said."""
        return self.data


class BillingModeMismatchError(RpcError):
    """Say that the client's billing mode is not the agent's."""

    def __init__(self, *, expected: str, got: str, status: int = 409) -> None:
        text = f"the agent's billing mode is {expected!r}, the client's is {got!r}; open the client as {expected!r}"
        data = {"expected": expected, "got": got}
        super().__init__(text, code="BillingModeMismatch", status=status, data=data)
        self.expected = expected
        self.got = got


class QuotaExceededError(RpcError):
    """Say that an owner has all that he may have of a hub.

    Attributes:
        quota: of what: `submits` a second, `openTasks`, `inputBytes`.
        limit: how much that is.
        retry_after: seconds after which to ask again; None: what was asked for is more than there ever is.
    """

    def __init__(self, rpc_message: str, *, code: str, status: int, data: dict[str, Any]) -> None:
        super().__init__(rpc_message, code=code, status=status, data=data)
        self.quota = str(data.get("quota", ""))
        self.limit = data.get("limit")
        pause = data.get("retryAfter")
        self.retry_after = float(pause) if isinstance(pause, (int, float)) else None

    @property
    def passes_soon(self) -> bool:
        """Whether the same is taken a moment later: only so many come in a second."""
        return self.quota == "submits" and self.retry_after is not None


class SomeRefusedError(RpcError):
    """Say that of many tasks some were refused; code, status and data are those of the first refusal.

    Attributes:
        results: what each got, in order: its session, or its `RpcError`.
        refused: the `RpcError` of each that was refused, in order.
    """

    def __init__(self, results: Sequence[Any], refused: Sequence[RpcError]) -> None:
        first = refused[0]
        text = f"{len(refused)} of {len(results)} tasks were refused; the first: {first.rpc_message}"
        super().__init__(text, code=first.code, status=first.status, data=first.data)
        self.results = list(results)
        self.refused = list(refused)


class FileUploadError(BlocksError):
    """Say which step of an upload failed, and why; `status_code` is the hub's, 0 when it did not answer."""

    def __init__(self, text: str, *, status_code: int = 0) -> None:
        super().__init__(text)
        self.status_code = status_code


class HubUnavailableError(BlocksError, RuntimeError, ConnectionError):
    """Say that nothing answers at `url`, and how to start a hub.

    `sent`: the request may have been carried out all the same. `is_named` is false where the host's name is unknown.
    `hangs`: something listens there, and gave no answer in time.
    """

    def __init__(
        self, url: str, why: str = "", *, sent: bool = False, is_named: bool = True, hangs: bool = False
    ) -> None:
        super().__init__(url, why)
        self.url = url
        self.why = why
        self.sent = sent
        self.is_named = is_named
        self.hangs = hangs

    def __str__(self) -> str:
        because = f" ({self.why})" if self.why else ""
        if self.hangs:
            return (
                f"no hub answers at {self.url}{because}, though something listens there: "
                "it hangs or has too much to do. Try again, or look at it and start it anew"
            )
        return (
            f"no hub answers at {self.url}{because}. "
            "Start one with 'blocks-run --handler echo' or 'blocks-hub', or set BLOCKS_CDM_URL to a running one"
        )


class ForkedProcessError(BlocksError, RuntimeError):
    """Say that a connection belongs to the process that this one was forked from."""

    def __str__(self) -> str:
        return "this connection belongs to the process that forked this one: open a client of its own here"


class AgentAuthFatalError(BlocksError, RuntimeError):
    """Say that this credential is refused for good; `code` is the hub's word for it."""

    def __init__(self, text: str, *, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class AuthRefreshFailedError(BlocksError, RuntimeError):
    """Say that a token could not be renewed; the cause is chained.

    Attributes:
        timed_out: whether a token provider of the user's did not return in time.
    """

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class TransportError(BlocksError, ConnectionError):
    """Say that publish and subscribe are in trouble; repeat later."""


class TransportClosedError(TransportError):
    """Say that the transport was closed on this side."""


class PublishRefusedError(TransportError):
    """Say that the network refused a message for good."""


class PublishTimeoutError(TransportError):
    """Say that no answer came in time: the message may or may not have been accepted."""


class StreamWriteError(BlocksError, RuntimeError):
    """Say that frames of a stream could not be delivered after all tries."""

    def __init__(self, stream_id: str, why: str) -> None:
        super().__init__(stream_id, why)
        self.stream_id = stream_id
        self.why = why

    def __str__(self) -> str:
        return f"the stream {self.stream_id} could not be delivered: {self.why}"


class StreamUnavailableError(BlocksError, RuntimeError):
    """Say that a stream was never opened here and its task has ended: its data were live and are gone."""

    def __init__(self, *, task_id: str, stream_id: str, declared_stream: str | None, terminal_state: str) -> None:
        super().__init__(task_id, stream_id)
        self.task_id = task_id
        self.stream_id = stream_id
        self.declared_stream = declared_stream
        self.terminal_state = terminal_state

    def __str__(self) -> str:
        name = f" ({self.declared_stream})" if self.declared_stream else ""
        return (
            f"the stream {self.stream_id}{name} of task {self.task_id} cannot be opened: the task has ended "
            f"({self.terminal_state}), and the data of streams are live; open a stream in on_stream"
        )


class EventQuotaError(BlocksError, RuntimeError):
    """Say that a run has stored as much as one run may; its end is told all the same."""

    def __init__(self, limit: int, what: str) -> None:
        super().__init__(limit, what)
        self.limit = limit
        self.what = what

    def __str__(self) -> str:
        return f"a run may store {self.limit} {self.what}: say less, or put what is much into a file or a stream"


class TaskFinishedError(BlocksError, RuntimeError):
    """Say that the task is over or belongs to another run now."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"task {self.task_id} is over for this run: nothing more can be sent for it"


class TaskCancelledError(BlocksError, CancelledError):
    """Say that the task is to stop; a handler may let it pass."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"task {self.task_id} was cancelled"


class AskTimeoutError(BlocksError, TimeoutError):
    """Say that nobody answered a question in time; `ask_id` is its name."""

    def __init__(self, task_id: str, ask_id: str) -> None:
        super().__init__(task_id, ask_id)
        self.task_id = task_id
        self.ask_id = ask_id

    def __str__(self) -> str:
        return f"nobody answered question {self.ask_id} of task {self.task_id} in time"


def ended_because(end: Any) -> str | None:
    """Return in words why a task ended as it did, by its row or terminal event; of a limit of time, which it was."""
    error, reason = getattr(end, "error", None), getattr(end, "reason", None)
    if getattr(end, "error_code", None) == "timeout" and reason == "progress":
        return f"{error}: it said nothing for too long (progress_timeout)"
    if getattr(end, "error_code", None) == "timeout" and reason:
        return f"{error}: over its {reason}"
    return error or reason


class TaskFailedError(BlocksError, RuntimeError):
    """Carry the terminal event of a task that did not complete."""

    def __init__(self, task_id: str, event: Any) -> None:
        super().__init__(task_id, event)
        self.task_id = task_id
        self.event = event

    def __str__(self) -> str:
        said = ended_because(self.event) or "no reason given"
        state = getattr(self.event, "state", None) or "failed"
        return f"task {self.task_id} {'was canceled' if state == 'canceled' else state}: {said}"


class InputError(BlocksError, ValueError):
    """Say what is wrong with the input of a task; never retried."""

    def __init__(self, text: str, *, part_id: str | None = None) -> None:
        super().__init__(text)
        self.part_id = part_id


class ArtifactError(BlocksError, ValueError):
    """Say why an artifact can not be published or read."""


class StepError(BlocksError, ValueError):
    """Say why a durable step cannot be stored; `name` is what it was called."""

    def __init__(self, name: object, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        return f"the step {reprlib.repr(self.name)} {self.why}"


class StoreError(BlocksError, RuntimeError):
    """Say that the ledger could not be read or written; `code` is a short fixed word.

    Attributes:
        retry_after: the seconds after which another try is worth it, where that is known.
    """

    def __init__(self, text: str, *, code: str = "store", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after


class AnonTaskAccessDenied(BlocksError):  # noqa: N818 - the name users know
    """Be there by name: anonymous viewing is not offered."""


AnonTaskAccessDeniedError = AnonTaskAccessDenied
