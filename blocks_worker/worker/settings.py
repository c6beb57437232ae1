"""What a worker is told once, at its making."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blocks_worker.protocol.declared import Card
from blocks_worker.streams.options import WriterOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.worker.spool import SpoolPlace


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Say how an instance works. Times are seconds.

    Attributes:
        concurrency: how many tasks run at once.
        max_runtime: the longest that one run may take; a task may ask for less.
        progress_timeout: within how many seconds a run has to say something each time; a task may ask for fewer.
        drain_timeout: how long `stop` lets runs finish.
        strict_results: a result with anything unknown in it fails the task.
        inline_limit: largest artifact in bytes that travels inside its event.
        card: what the agent's card declares.
        stream_options: how streams are cut and bundled.
        heartbeat_interval: how often the hub hears of us; the hub's own numbers may make it shorter.
        on_error: told of each exception that a handler raises.
        on_raised: told of whatever leaves a handler, or the check of its input, before it is judged.
        on_cancel_task: told of a cancel, with the network as an override sees it, in place of the cancel event.
        network: the user's own client of the network, for what an override publishes elsewhere.
        max_rss: bytes of memory in RAM beyond which the process takes no new task; None: any number.
        spool: where outcomes are kept that the hub has not answered; None: nowhere.
    """

    agent_name: str
    instance_id: str
    concurrency: int = 1
    max_runtime: float = 3600.0
    progress_timeout: float | None = None
    drain_timeout: float = 60.0
    strict_results: bool = False
    inline_limit: int = 16_384
    card: Card = field(default_factory=Card)
    stream_options: WriterOptions = field(default_factory=WriterOptions)
    heartbeat_interval: float = 5.0
    on_error: Callable[[str, BaseException], None] | None = None
    on_raised: Callable[[BaseException], None] | None = None
    on_cancel_task: Callable[[str, Any], object] | None = None
    network: Any = None
    max_rss: int | None = None
    spool: SpoolPlace | None = None
