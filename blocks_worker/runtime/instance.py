"""Start an instance of an agent: the one place that knows the worker, the hub and how to get in."""

from __future__ import annotations

import platform
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blocks_worker import __version__
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import WorkerConfig, bypass_proxy_on_loopback, worker_config
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.tokens import InstanceLogin
from blocks_worker.processes import this_process
from blocks_worker.protocol.leases import ConnectRequest
from blocks_worker.runtime.entry import CDM_PATH, HUB_STOP_TIMEOUT, Entry, enter
from blocks_worker.runtime.options import AgentInstanceOptions, InstancePlan, options_of, plan
from blocks_worker.transports.pubnub.transport import PubNubSettings, PubNubTransport
from blocks_worker.worker.spool import SpoolPlace
from blocks_worker.worker.worker import Worker, WorkerSettings

if TYPE_CHECKING:
    from typing_extensions import Self

    from blocks_worker.client.client import TaskClient
    from blocks_worker.protocol.leases import ConnectAnswer
    from blocks_worker.transports.base import Grants, Transport

#: Seconds of one call to the hub: a hub that hangs must not hold up the end of the process for longer.
HUB_TIMEOUT = 10.0

_PUBLIC_MEMBERS = ("stop", "agent_name", "instance_id")
_MEMBERS = (*_PUBLIC_MEMBERS, "task_client", "cdm_config", "hub_url", "state", "error", "active_tasks")


class AgentInstance:
    """A running instance: attributes and items; as a context manager it stops at the end.

    Attributes:
        agent_name, instance_id: as resolved.
        hub_url: base address of its hub.
        cdm_config: the document that said where hub and network are.
    """

    def __init__(
        self,
        options: AgentInstanceOptions,
        config: WorkerConfig,
        plan: InstancePlan,
        entry: Entry,
        *,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.agent_name = plan.agent_name
        self.instance_id = plan.instance_id
        self.concurrency = plan.concurrency
        self.cdm_config = entry.cdm
        self.hub_url = entry.cdm.hub_url
        self._entry = entry
        self._lock = threading.Lock()
        self._releasing = threading.Lock()
        self._is_over = False
        self._task_client: TaskClient | None = None
        self._http = Http(entry.cdm.hub_url, timeout=HUB_TIMEOUT)
        self._worker = _worker(self, options, config, plan, clock, entropy)

    @property
    def state(self) -> str:
        """``starting``, ``ready``, ``full``, ``draining``, ``stopped`` or ``failed``."""
        return self._worker.state

    @property
    def error(self) -> BaseException | None:
        """What ended the instance for good, or None."""
        return self._worker.error

    @property
    def active_tasks(self) -> list[str]:
        """Ids of the tasks that it holds."""
        return self._worker.active_tasks

    @property
    def counters(self) -> dict[str, int]:
        """What was counted so far, by name."""
        return self._worker.counters

    @property
    def task_client(self) -> TaskClient:
        """A client with this instance's credentials, made at first use.

        Raises:
            RuntimeError: the instance has stopped.
        """
        with self._lock:
            if self._is_over:
                raise RuntimeError(f"{self.agent_name} has stopped, and its task client with it")
            if self._task_client is None:
                from blocks_worker.client.client import TaskClient

                cdm = self.cdm_config
                self._task_client = TaskClient.create(
                    "free", cdm_url=f"{cdm.hub_url}{CDM_PATH}", api_key=self._entry.api_key
                )
            return self._task_client

    def start(self) -> None:
        """Begin to connect; everything goes on in the background."""
        self._worker.start()

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until registered and listening.

        Raises:
            TimeoutError: not within `timeout` seconds.
            BlocksError: the instance was refused for good.
        """
        self._worker.wait_ready(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the instance has stopped; tell whether it has, raise what ended it for good."""
        return self._worker.wait(timeout)

    def stop(self, timeout: float | None = None) -> None:
        """Take nothing new, let tasks finish until the deadline, give the rest back, and end.

        A second call is harmless and waits for the first.
        """
        self._worker.stop(timeout)
        self._release()

    def hurry(self) -> None:
        """Cancel all that runs, at most 5 seconds more: for a second signal."""
        self._worker.hurry()

    def _release(self) -> None:
        """Let go of what is not the worker's, after the worker; whoever comes second waits for the first."""
        with self._releasing:
            with self._lock:
                self._is_over = True
                client, self._task_client = self._task_client, None
            if client is not None:
                client.destroy()
            self._http.close()
            if self._entry.keeper is not None:
                self._entry.keeper.stop(Deadline(HUB_STOP_TIMEOUT))

    def keys(self) -> tuple[str, ...]:
        """Return the names of the three members that a dict-like view promises."""
        return _PUBLIC_MEMBERS

    def get(self, name: str, default: Any = None) -> Any:
        """Return the member of that name, or the default."""
        return getattr(self, name) if name in _MEMBERS else default

    def __getitem__(self, name: str) -> Any:
        if name not in _MEMBERS:
            raise KeyError(name)
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in _MEMBERS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_agent_instance(
    options: AgentInstanceOptions | dict[str, Any] | None = None, *, config: WorkerConfig | None = None
) -> AgentInstance:
    """Start an instance; connecting, listening and the first heartbeat go on in the background.

    Raises:
        ValueError, TypeError: an option is wrong; the text names it.
        RuntimeError: no API key where one is needed.
        HubUnavailableError: no hub within 30 seconds.
    """
    chosen = options_of(options)
    config = config or worker_config()
    clock, entropy = Clock(), Entropy()
    instance_plan = plan(chosen, entropy)
    bypass_proxy_on_loopback()
    local_allowed = config.embedded_hub if chosen.embedded_hub is None else chosen.embedded_hub
    where = replace(config.connection, cdm_url=chosen.cdm_url or config.connection.cdm_url)
    entry = enter(where, local_allowed=local_allowed, clock=clock, entropy=entropy)
    instance = AgentInstance(chosen, config, instance_plan, entry, clock=clock, entropy=entropy)
    instance.start()
    return instance


def _worker(
    instance: AgentInstance,
    options: AgentInstanceOptions,
    config: WorkerConfig,
    plan: InstancePlan,
    clock: Clock,
    entropy: Entropy,
) -> Worker:
    cdm = instance.cdm_config
    login = InstanceLogin(
        http=instance._http,  # noqa: SLF001 - made and closed by the instance
        api_key=instance._entry.api_key,  # noqa: SLF001
        request=_connect_request(options, plan, clock, entropy),
        clock=clock,
        entropy=entropy,
    )

    def open_transport(answer: ConnectAnswer, grants: Grants) -> Transport:
        keys = cdm.keyset(answer.billing_mode)
        settings = PubNubSettings(
            origin=cdm.origin,
            publish_key=keys.publish_key,
            subscribe_key=keys.subscribe_key,
            user_id=plan.instance_id,
            hold=cdm.pubnub.hold,
            retention_limit=cdm.pubnub.retention_limit,
            retention_age=cdm.pubnub.retention_age,
        )
        return PubNubTransport(settings, grants=grants, producer=login.incarnation, clock=clock, entropy=entropy)

    return Worker(
        settings=_settings(options, config, plan, _spool(config, plan, instance._entry)),  # noqa: SLF001
        handler=plan.handler,
        login=login,
        open_transport=open_transport,
        clock=clock,
        entropy=entropy,
        task_client=lambda: instance.task_client,
        on_fatal=options.on_fatal,
        # Nobody calls `stop` where an error ends the script; what is left would keep its process alive.
        on_end=instance._release,  # noqa: SLF001
    )


def _spool(config: WorkerConfig, plan: InstancePlan, entry: Entry) -> SpoolPlace:
    return SpoolPlace.of(
        config.connection.state_dir / "spool",
        # A hub's address may change with a restart, its keys stay.
        hub=entry.cdm.playground.subscribe_key,
        api_key=entry.api_key,
        always=plan.delivery == "at_most_once",
    )


def _settings(
    options: AgentInstanceOptions, config: WorkerConfig, plan: InstancePlan, spool: SpoolPlace
) -> WorkerSettings:
    return WorkerSettings(
        agent_name=plan.agent_name,
        instance_id=plan.instance_id,
        concurrency=plan.concurrency,
        max_runtime=float(plan.max_running_time_sec),
        drain_timeout=config.drain_timeout if options.drain_timeout is None else options.drain_timeout,
        strict_results=options.strict_results,
        inline_limit=config.inline_limit,
        outputs=plan.outputs,
        heartbeat_interval=plan.heartbeat_interval,
        on_error=options.on_error,
        spool=spool,
    )


def _connect_request(
    options: AgentInstanceOptions, plan: InstancePlan, clock: Clock, entropy: Entropy
) -> ConnectRequest:
    return ConnectRequest(
        agent_name=plan.agent_name,
        instance_id=plan.instance_id,
        incarnation=entropy.name(),
        listing=options.listing,  # type: ignore[arg-type]  # the hub checks it
        description=plan.description,
        concurrency=plan.concurrency,
        expected_instances=plan.expected_instances,
        max_pending_backlog=plan.max_pending_backlog,
        max_running_time_sec=plan.max_running_time_sec,
        delivery=plan.delivery,  # type: ignore[arg-type]  # checked with the card
        started_at=clock.wall_ms(),
        sdk_version=__version__,
        device_os=platform.system(),
        card=plan.card,
        process=this_process(),
    )
