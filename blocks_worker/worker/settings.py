"""What a worker is told once, at its making."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.worker.spool import SpoolPlace


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Say how an instance works. Times are seconds.

    Attributes:
        concurrency: how many tasks run at once.
        max_runtime: the longest that one run may take; a task may ask for less.
        drain_timeout: how long `stop` lets runs finish.
        strict_results: a result with anything unknown in it fails the task.
        inline_limit: largest artifact in bytes that travels inside its event.
        outputs: the ids of the outputs that the agent's card declares.
        heartbeat_interval: how often the hub hears of us; the hub's own numbers may make it shorter.
        on_error: told of each exception that a handler raises.
        spool: where outcomes are kept that the hub has not answered; None: nowhere.
    """

    agent_name: str
    instance_id: str
    concurrency: int = 1
    max_runtime: float = 3600.0
    drain_timeout: float = 60.0
    strict_results: bool = False
    inline_limit: int = 16_384
    outputs: frozenset[str] = frozenset()
    heartbeat_interval: float = 5.0
    on_error: Callable[[str, BaseException], None] | None = None
    spool: SpoolPlace | None = None
