"""Every metric there is: its name, type, labels and meaning, in one table that pages and dashboards are held to.

No label holds an id of a task, a file or an owner: their values are few, names of agents and instances among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from blocks_worker.observability.spread import Buckets

#: Where a number comes from: the ledger, and so it is right after a restart too; counted since the process
#: began; read at the moment it is asked for.
Origin = Literal["ledger", "start", "now"]


class Family(NamedTuple):
    """One metric. A counter's name ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    origin: Origin
    says: str


class Sample(NamedTuple):
    """One number of a family, its labels in the family's order."""

    family: str
    labels: tuple[str, ...]
    value: float | Buckets


#: Stands for all agents, or instances, beyond the most that have a line of their own; no name looks like it.
OTHERS = "(others)"
#: Most agents, and most instances, with lines of their own.
MOST_NAMES = 200

_WHO = ("agent", "instance")


def _count(name: str, says: str, *labels: str, origin: Origin = "start") -> Family:
    return Family(name, "counter", labels, origin, says)


def _gauge(name: str, says: str, *labels: str, origin: Origin = "now") -> Family:
    return Family(name, "gauge", labels, origin, says)


WORKER = (
    _gauge("blocks_worker_ready", "1 when every condition of `/readyz` holds for this instance", *_WHO),
    _gauge("blocks_worker_condition", "1 when this condition of `/readyz` holds", *_WHO, "condition"),
    _gauge("blocks_worker_slots", "tasks that it runs at the same time at most; 0 once it has ended", *_WHO),
    _gauge("blocks_worker_slots_free", "slots that an offer may have now", *_WHO),
    _gauge("blocks_worker_runs_active", "tasks at work here, those that wait for a resume too", *_WHO),
    _gauge("blocks_worker_waiting_runs", "runs that wait for their resume without a slot", *_WHO),
    _count(
        "blocks_worker_runs_total",
        "ended runs: `completed`, `failed`, `canceled`, `expired`, or `released`: given back. A task that is run again "
        "is a further run, one that ends in the queue is none; a run whose lease was lost is in `lease_lost`",
        *_WHO,
        "state",
    ),
    _count("blocks_worker_lease_lost_total", "runs stopped because the task is somebody else's by now", *_WHO),
    _count("blocks_worker_late_results_total", "results that came after the run had ended otherwise", *_WHO),
    _count("blocks_worker_runs_timed_out_total", "runs that met a limit of time", *_WHO),
    _count("blocks_worker_runs_forced_total", "runs ended by force: the handler did not obey its cancel", *_WHO),
    _count(
        "blocks_worker_given_up_total",
        "what ran on behind the end of its run: a `thread` that was replaced, a `coroutine`, or a `slot`: a thread "
        "that could not be replaced and keeps its slot",
        *_WHO,
        "what",
    ),
    _gauge("blocks_worker_abandoned_threads", "threads given up that still hang in a handler", *_WHO),
    _count(
        "blocks_worker_offers_refused_total",
        "offers not taken, by reason: `agent_at_capacity`, `draining`, `cancelled` before it came",
        *_WHO,
        "reason",
    ),
    _count(
        "blocks_worker_duplicates_dropped_total",
        "what came twice and counted once: `message` by the network, `replay` of a signed message, `offer`",
        *_WHO,
        "what",
    ),
    _count("blocks_worker_messages_refused_total", "control messages refused, by reason", *_WHO, "reason"),
    _count("blocks_worker_messages_failed_total", "control messages that this program failed at", *_WHO),
    _count("blocks_worker_gaps_repaired_total", "gaps in what the network brought that were filled", *_WHO),
    _count("blocks_worker_gaps_open_total", "gaps that were not; the hub was asked instead", *_WHO),
    _count("blocks_worker_transport_rebuilds_total", "times that the transport was built anew, being deaf", *_WHO),
    _count(
        "blocks_worker_transport_turns_total",
        "turns of the control channel, by `link`: `connected`, `recovered`, `retrying`, `unauthorized`, `failed`",
        *_WHO,
        "link",
    ),
    _gauge(
        "blocks_worker_hub_heard_seconds",
        "seconds since the last heartbeat that the hub answered began; none once it has ended",
        *_WHO,
    ),
    _count(
        "blocks_worker_heartbeats_starved_total",
        "heartbeats that came late by two seconds or more: the process was stopped, or a handler let no thread run",
        *_WHO,
    ),
    _count(
        "blocks_worker_claims_lost_total",
        "claims that brought no lease: `refused` by the hub, `no_answer` in time to any try, `too_late` to be asked "
        "for, or `withdrawn` meanwhile",
        *_WHO,
        "reason",
    ),
    _count(
        "blocks_worker_reports_repeated_total",
        "times that a report had to be sent once more: no answer came, or the hub could not take it then",
        *_WHO,
    ),
    _count(
        "blocks_worker_reports_failed_total",
        "reports that the hub refused for good, each the end of its run; that a lease is lost is no such refusal",
        *_WHO,
    ),
    _gauge("blocks_worker_stuck_slots", "slots kept by threads that hang and could not be replaced", *_WHO),
    _count(
        "blocks_worker_process_starved_total",
        "times that a thread which does nothing but come round was late by a second or more: no thread got its turn",
        *_WHO,
    ),
    _gauge("blocks_worker_starved_seconds", "for how long it was late in all", *_WHO),
    _count("blocks_worker_threads_leaked_total", "threads more than ever before behind the end of a run", *_WHO),
    _count("blocks_worker_statuses_dropped_total", "statuses beyond what a run may store", *_WHO),
    _count("blocks_worker_nacks_lost_total", "refusals of offers that never reached the hub", *_WHO),
    _gauge("blocks_worker_outcomes_unheard", "outcomes that the hub has not answered yet", *_WHO),
    _gauge("blocks_worker_outcomes_spooled", "those of them that are written to disk: the depth of the spool", *_WHO),
    _gauge("blocks_worker_drain_seconds", "for how long it drains, or drained; 0 before", *_WHO),
    _gauge("blocks_worker_streams_open", "streams open in this instance", *_WHO),
)

HUB = (
    _gauge("blocks_hub_ready", "1 when every condition of `/readyz` holds"),
    _gauge("blocks_hub_condition", "1 when this condition of `/readyz` holds", "condition"),
    _count(
        "blocks_hub_tasks_accepted_total",
        "tasks that were ever taken in, those that were purged since too",
        origin="ledger",
    ),
    _count(
        "blocks_hub_tasks_total",
        "tasks by their end: `completed`, `failed`, `canceled`, as consumers see them; purged ones stay counted",
        "agent",
        "state",
        origin="ledger",
    ),
    _gauge("blocks_hub_queue_depth", "tasks that wait, offered ones too", "agent", origin="ledger"),
    _gauge("blocks_hub_queue_oldest_seconds", "age of the oldest task that waits", "agent", origin="ledger"),
    _gauge("blocks_hub_tasks_running", "tasks with a worker", "agent", origin="ledger"),
    _gauge(
        "blocks_hub_instances",
        "instances that are not gone, by state: `registering`, `ready`, `suspect` (not heard of lately), `draining`, "
        "`degraded` (short of something)",
        "agent",
        "state",
        origin="ledger",
    ),
    _gauge("blocks_hub_instance_ready", "1 when the hub makes offers to it", *_WHO, origin="ledger"),
    _gauge("blocks_hub_instance_silent_seconds", "seconds since it was heard of", *_WHO),
    _gauge("blocks_hub_slots", "slots of the ready instances", "agent", origin="ledger"),
    _gauge("blocks_hub_streams_open", "streams, as the instances told with their last heartbeats", "agent"),
    _count("blocks_hub_retries_total", "runs that failed and are followed by another"),
    _count("blocks_hub_dead_letters_total", "tasks that the hub gave up"),
    _count("blocks_hub_lease_lost_total", "leases ended because their holder was gone"),
    _count("blocks_hub_leases_taken_back_total", "leases ended because their holder knew nothing of them"),
    _count("blocks_hub_leases_released_total", "leases that their holders gave back"),
    _count("blocks_hub_offers_taken_back_total", "offers refused, not claimed in time, or made to one who went"),
    _count(
        "blocks_hub_fenced_writes_total",
        "claims and reports refused with 409: whoever sent them holds no lease, or not any more",
    ),
    _count(
        "blocks_hub_claims_outrun_total",
        "claims of what was offered to all instances and another one had first: 409 too, but nothing is amiss",
    ),
    _count("blocks_hub_instances_lost_total", "instances that ended by their silence, or with their process"),
    _count(
        "blocks_hub_connections_refused_total",
        "connections that were closed because their address has as many as it may, by door: `hub`, `network`",
        "door",
    ),
    _count(
        "blocks_hub_quota_refused_total",
        "what was refused because one owner, or one run, had its share: `submits`, `openTasks`, `inputBytes`, "
        "`runEvents`, `runEventBytes`",
        "quota",
    ),
    _count("blocks_hub_sweep_failures_total", "rows that a sweep failed at"),
    _gauge("blocks_hub_admits_tasks", "0 while the disk is too full for new tasks"),
    _gauge("blocks_hub_writes_waiting", "sets of writes that wait for the ledger"),
    _count("blocks_hub_statements_total", "statements in commits; one for the rows of many tasks counts once"),
    Family("blocks_hub_commit_group_size", "histogram", (), "start", "sets of writes in one commit"),
    Family(
        "blocks_hub_publish_lag_seconds",
        "histogram",
        (),
        "start",
        "from a commit until what it has to say was handed to the network",
    ),
    _gauge("blocks_hub_events_unpublished", "stored events that were not handed to the network yet"),
    _count("blocks_hub_messages_published_total", "messages handed to the network"),
    _count("blocks_hub_messages_too_large_total", "messages that no envelope can carry; their readers ask the hub"),
    _gauge("blocks_hub_network_connections", "connections to the local network"),
    Family(
        "blocks_hub_http_request_seconds",
        "histogram",
        ("method", "route", "status"),
        "start",
        "answered requests, by the route's template and the class of the status (`2xx`); `_count` is how many",
    ),
)

#: Of the process, whatever runs in it; the first one is ours, the others are those that Prometheus itself names.
PROCESS = (
    _gauge("process_threads", "threads of the process, foreign libraries' too"),
    _gauge("process_resident_memory_bytes", "memory in RAM"),
    _gauge("process_virtual_memory_bytes", "address space"),
    _gauge("process_open_fds", "open file descriptors"),
    _gauge("process_max_fds", "most file descriptors that it may open"),
    _count("process_cpu_seconds_total", "processor time"),
    _gauge("process_start_time_seconds", "when it began, in unix seconds"),
)
