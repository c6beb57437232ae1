"""What the worker needs of others, as it needs it: the hub's work endpoints, a login, and who hears its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blocks_worker.controlplane.files import FileApi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.concurrency import Deadline
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.protocol.leases import (
        Claim,
        ClaimAnswer,
        ConnectAnswer,
        Heartbeat,
        HeartbeatAnswer,
        LateReport,
        Report,
        ReportAnswer,
    )
    from blocks_worker.protocol.steps import StepsAnswer
    from blocks_worker.protocol.streams import GrantedStream, StreamName
    from blocks_worker.streams.exchange import StreamExchange
    from blocks_worker.worker.run import RunKey


class RunApi(FileApi, Protocol):
    """Be the calls by which runs begin and speak, and those for files.

    Each raises `HubUnavailableError` when nothing answered in time and `RpcError` when the whole was refused.
    """

    def claims(self, items: Sequence[Claim], *, timeout: float) -> Sequence[ItemResult[ClaimAnswer]]:
        """Take or refuse offered tasks; one result an item, in order."""

    def reports(self, items: Sequence[Report], *, timeout: float) -> Sequence[ItemResult[ReportAnswer]]:
        """Say what runs have to say; one result an item, in order."""

    def steps(self, task_id: str, after: str = "", *, timeout: float) -> StepsAnswer:
        """Return the stored steps of a task behind a name."""


class WorkApi(RunApi, Protocol):
    """Be these, and the call of an instance's life, which raises the same."""

    def heartbeat(self, beat: Heartbeat, *, timeout: float) -> HeartbeatAnswer:
        """Say that the instance lives."""


class StreamDoor(Protocol):
    """Be the way to streams: their connection, and tokens for those that another process serves."""

    def open_exchange(self) -> StreamExchange:
        """Return a new exchange; called once, after the first connect."""

    def hand_out(self, name: StreamName) -> GrantedStream:
        """Return the tokens of one stream.

        Raises:
            RpcError, HubUnavailableError: the hub did not grant it.
        """


class Standpoint(Protocol):
    """Be what runs need of a login."""

    @property
    def api(self) -> RunApi:
        """The hub's calls under this login's token."""

    @property
    def incarnation(self) -> str:
        """The name of this process life."""


class Login(Protocol):
    """Be one instance's standing with the hub; it is the transport's `Grants` too."""

    @property
    def api(self) -> WorkApi:
        """The hub's calls under this login's token."""

    @property
    def incarnation(self) -> str:
        """The name of this process life."""

    def connect(self) -> ConnectAnswer:
        """Register; one try.

        Raises:
            AgentAuthFatalError: refused for good.
            HubUnavailableError, RpcError: not now.
        """

    def report_late(self, items: Sequence[LateReport], *, timeout: float) -> Sequence[ItemResult[ReportAnswer]]:
        """Say what processes that died had to say; one result an item, in order; needs no connect."""

    def renew_incarnation(self) -> None:
        """Take a new name: the hub does not know the old one any more."""

    def start(self) -> None:
        """Begin to renew the tokens in time."""

    def close(self, deadline: Deadline) -> None:
        """Stop renewing."""

    def token(self) -> str | None:
        """Return the token by which the transport reads its channels."""

    def refresh(self, refused: str | None) -> bool:
        """Get another token because this one was refused."""


class Heard(Protocol):
    """Be told what the hub said about a run."""

    def answered(self, key: RunKey) -> None:
        """The hub has the ending of this run."""

    def fenced(self, key: RunKey) -> None:
        """The task is not this run's any more."""

    def told(self, key: RunKey, flags: ReportAnswer) -> None:
        """The task is to stop, or to wait, or to go on."""
