"""How this instance stands with its hub: what the last connect told, and how long it may be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.protocol.leases import ClaimAnswer, Numbers
from blocks_worker.protocol.lifecycle import DURATION_EXPIRED
from blocks_worker.worker.leases import HubTime, Trust

if TYPE_CHECKING:
    from blocks_worker.protocol.control import StartTask
    from blocks_worker.protocol.leases import ConnectAnswer

#: Seconds that a lease may seem to be from the future: more is a clock that cannot be believed.
GRANTED_AHEAD = 1.0


class Standing:
    """Hold the hub's numbers, its clock and our trust. Each is replaced whole, so a reader needs no lock."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.trust = Trust(self.numbers)
        self.hub_time = HubTime(0, 0.0)
        self.agent_id = ""

    def connected(self, answer: ConnectAnswer, begun: float) -> None:
        """Take over what a connect that was begun at `begun` was answered."""
        self.numbers = answer.numbers
        self.trust = Trust(answer.numbers)
        self.trust.renewed(begun)
        self.heard(answer.hub_time, begun)
        self.agent_id = answer.agent_id

    def heard(self, hub_ms: int, begun: float) -> None:
        """Take over the hub's clock from an answer to what was begun then."""
        self.hub_time = HubTime(hub_ms, begun)

    def answers_for(self, offer: StartTask, now: float) -> ClaimAnswer | None:
        """Return what a claim of this offer would be answered, where its lease came along and is fresh; None: claim it.

        A lease that waited, in a socket or a stopped process, may have been taken back meanwhile.
        """
        granted = offer.granted
        if granted is None or self.trust.is_suspect(now):
            return None
        age = now - self.hub_time.monotonic(granted.hub_time)
        if not -GRANTED_AHEAD < age < self.numbers.granted_max_age:
            return None
        return ClaimAnswer(
            task_id=offer.task_id,
            epoch=offer.epoch,
            lease=granted.lease,
            attempt=granted.attempt,
            digest=offer.digest,
            max_runtime=granted.max_runtime,
            deadline=granted.deadline,
            progress_timeout=granted.progress_timeout,
        )

    def run_until(
        self, now: float, max_runtime: float, deadline_ms: int | None, expires_ms: int | None = None
    ) -> tuple[float, str]:
        """Return when a run that begins now is over at the latest, and the name of the limit.

        `expires_ms`: when the duration of a pipe is over, in place of a limit of its run.
        """
        end, limit = now + max_runtime, "max_runtime"
        if expires_ms is not None:
            end, limit = self.hub_time.monotonic(expires_ms), DURATION_EXPIRED
        if deadline_ms is not None and self.hub_time.monotonic(deadline_ms) < end:
            return self.hub_time.monotonic(deadline_ms), "deadline"
        return end, limit
