"""Start an instance of an agent: the one place that knows the worker, the hub and how to get in."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import WorkerConfig, bypass_proxy_on_loopback, worker_config
from blocks_worker.controlplane.agent_auth import AgentAuth
from blocks_worker.controlplane.gate import Gate
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.whereabouts import CDM_PATH, Whereabouts
from blocks_worker.errors import AuthRefreshFailedError
from blocks_worker.runtime.assembly import Assembly, Surroundings
from blocks_worker.runtime.card_notes import log_card
from blocks_worker.runtime.entry import HUB_STOP_TIMEOUT, Entry, enter, enter_by_client
from blocks_worker.runtime.options import AgentInstanceOptions, InstancePlan, options_of, plan
from blocks_worker.whose import working_for
from blocks_worker.worker.terminals import ending_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from blocks_worker.client.client import TaskClient
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.config import ClientConfig
    from blocks_worker.controlplane.cdm import CdmConfig
    from blocks_worker.worker.insight import Insight
    from blocks_worker.worker.presence import Pulse

#: Seconds of one call to the hub: a hub that hangs must not hold up the end of the process for longer.
HUB_TIMEOUT = 10.0

#: Seconds that a start waits for the hub's first word; who has not spoken by then speaks later.
FIRST_WORD = 10.0

#: Seconds for a look after the hub to end: it may wait for an address that hangs, and its thread may be left.
WHERE_TIMEOUT = 0.5

#: Seconds for the link to end: it may just be connecting, and its thread may be left.
LINK_TIMEOUT = 1.0

_PUBLIC_MEMBERS = ("stop", "agent_name", "instance_id")
_MEMBERS = (
    *_PUBLIC_MEMBERS,
    *("task_client", "publish_terminal", "fail_stream", "cdm_config", "pubnub"),
    *("wait_ready", "wait", "state", "error", "active_tasks"),
    *("hub_url", "concurrency", "counters", "auth", "user_id"),
)


class AgentInstance:
    """A running instance: attributes and items; as a context manager it stops at the end.

    Attributes:
        agent_name, instance_id: as resolved.
        user_id: as the options said it.
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
        client_config: ClientConfig | None = None,
    ) -> None:
        self.agent_name = plan.agent_name
        self.instance_id = plan.instance_id
        self.concurrency = plan.concurrency
        self.user_id = options.user_id
        self._network = options.pubnub
        self._entry = entry
        self._where = Whereabouts(entry.cdm, find=None if entry.is_told else entry.find, clock=clock, entropy=entropy)
        self._lock = threading.Lock()
        self._releasing = threading.Lock()
        self._is_over = False
        self._task_client: TaskClient | None = None
        self._client_config = client_config
        self._own_network: Any = None
        gate = Gate(clock, entropy)
        self._http = Http(entry.cdm.hub_url, timeout=HUB_TIMEOUT, on_doubt=self._where.ask, gate=gate)
        self._where.follow(lambda: self._http.move(self.hub_url))
        about = Surroundings(
            options=options,
            config=config,
            plan=plan,
            entry=entry,
            where=self._where,
            http=self._http,
            clock=clock,
            entropy=entropy,
        )
        self._assembly = Assembly(about, task_client=lambda: self.task_client, on_end=self._release)
        self._worker = self._assembly.worker
        self.auth = AgentAuth(self._assembly.login)
        self._where.follow(self._worker.recheck)

    @property
    def cdm_config(self) -> CdmConfig | None:
        """The document that says where hub and network are, as it was read last; None where `pubnub=` told it."""
        return None if self._entry.is_told else self._where.now

    @property
    def pubnub(self) -> Any:
        """The PubNub client that was given; else one of its own with this instance's keys and the grant of now.

        Raises:
            RuntimeError: the instance has stopped.
        """
        if self._network is not None:
            return self._network
        with self._lock:
            self._check_open("network client")
            if self._own_network is None:
                from blocks_worker.transports.pubnub.client import plain_client

                self._own_network = plain_client(self._assembly.network())
            with contextlib.suppress(AuthRefreshFailedError):
                self._own_network.set_token(self._assembly.login.token())
            return self._own_network

    @property
    def hub_url(self) -> str:
        """The base address of its hub; another one when the hub has moved."""
        return self._where.now.hub_url

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
    def pulse(self) -> Pulse:
        """How busy it is, and whether it gets on: for whoever watches over the process."""
        return self._worker.pulse

    @property
    def counters(self) -> dict[str, int]:
        """What was counted so far, by name."""
        return self._worker.counters

    @property
    def insight(self) -> Insight:
        """Its conditions and numbers, as `/readyz` and `/metrics` of `blocks-run` tell them."""
        return self._worker.insight

    @property
    def task_client(self) -> TaskClient:
        """A client with this instance's credentials, made at first use.

        Raises:
            RuntimeError: the instance has stopped.
        """
        with self._lock:
            self._check_open("task client")
            if self._task_client is None:
                self._task_client = self._make_task_client()
            return self._task_client

    def _check_open(self, what: str) -> None:
        if self._is_over:
            raise RuntimeError(f"{self.agent_name} has stopped, and its {what} with it")

    def _make_task_client(self) -> TaskClient:
        from blocks_worker.client.client import TaskClient
        from blocks_worker.client.opening import connected
        from blocks_worker.client.settings import Wishes

        if self._entry.is_told:
            return TaskClient(pubnub=self._network, base_url=self.hub_url, billing_mode=self._assembly.billing_mode)
        wishes = Wishes(find_url=self._entry.cdm_url, api_key=self._entry.api_key, base_url=self._entry.base_url)
        return TaskClient(connected(wishes, self._assembly.billing_mode, settings=self._client_config))

    def start(self) -> None:
        """Begin to connect; everything goes on in the background."""
        self._worker.start()

    def check_first_word(self, timeout: float) -> None:
        """Wait until the hub was asked once, or for so long, and raise its refusal if it is one for good."""
        self._worker.wait_asked(timeout)

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
        self.drain(timeout)
        self._release()

    def kill(self) -> None:
        """End as a process does that is killed, for tests: nothing is given back, and nobody is told."""
        self._worker.kill()
        self._release()

    def drain(self, timeout: float | None = None) -> None:
        """End as `stop` does, but keep a hub that runs here until then: other instances of the process may need it.

        None is started here any more: another process of this user does, where there is one.
        """
        if self._entry.keeper is not None:
            self._entry.keeper.step_back()
        self._worker.stop(timeout)

    @property
    def runs_hub(self) -> bool:
        """Whether the local hub runs in this instance."""
        return self._entry.keeper is not None and self._entry.keeper.runs_hub

    def publish_terminal(
        self, task_id: str, event: Mapping[str, Any] | TaskEvent, *, timeout: float | None = None
    ) -> None:
        """End a pipe task; return once the hub has recorded it, at most `timeout` seconds later where they are given.

        The event is a dict or `TaskEvent` with a terminal `state`; its `error`, `errorCode` and `reason` count too.

        Raises:
            RuntimeError: this instance does not hold the task, it is no pipe, or it has ended otherwise.
            TimeoutError: the hub has not answered yet; it goes on being told.
            ValueError: the event is none in which a task ends.
        """
        self._worker.publish_terminal(task_id, ending_of(event), timeout)

    def fail_stream(self, stream_id: str, reason: str) -> None:
        """End a stream; every task that uses it fails with this reason.

        Raises:
            RuntimeError: no such stream is open here.
        """
        if not self._worker.fail_stream(stream_id, reason):
            raise RuntimeError(f"no stream {stream_id!r} is open in this instance")

    def hurry(self) -> None:
        """Cancel all that runs, at most 5 seconds more: for a second signal."""
        self._worker.hurry()

    def _release(self) -> None:
        """Let go of what is not the worker's, after the worker; whoever comes second waits for the first."""
        with self._releasing:
            with self._lock:
                self._is_over = True
                client, self._task_client = self._task_client, None
                network, self._own_network = self._own_network, None
            if client is not None:
                client.destroy()
            if network is not None:
                from blocks_worker.transports.pubnub.client import stop_plain

                stop_plain(network)
            if self._assembly.link is not None:
                self._assembly.link.close(Deadline(LINK_TIMEOUT))
            self._http.close()
            self._where.close(Deadline(WHERE_TIMEOUT))
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
        AgentAuthFatalError: a RuntimeError: the hub refuses the key or the agent's name. A hub that has not answered
            within 10 seconds may still do so: see `AgentInstance.error`.
    """
    chosen = options_of(options)
    bypass_proxy_on_loopback()
    return started_in(chosen, config or worker_config())


def started_in(
    chosen: AgentInstanceOptions, config: WorkerConfig, *, client_config: ClientConfig | None = None
) -> AgentInstance:
    """Start an instance that takes nothing from the environment but what `config` says; raise as the above.

    `client_config`: the same for the client that its handlers use.
    """
    clock, entropy = Clock(), Entropy()
    instance_plan = plan(chosen, entropy)
    with working_for({"agent": instance_plan.agent_name, "instance": instance_plan.instance_id}):
        return _started(chosen, config, instance_plan, client_config, clock, entropy)


def _started(
    chosen: AgentInstanceOptions,
    config: WorkerConfig,
    instance_plan: InstancePlan,
    client_config: ClientConfig | None,
    clock: Clock,
    entropy: Entropy,
) -> AgentInstance:
    entry = _enter(chosen, config, clock, entropy)
    log_card(instance_plan)
    instance = AgentInstance(
        chosen, config, instance_plan, entry, clock=clock, entropy=entropy, client_config=client_config
    )
    instance.start()
    try:
        instance.check_first_word(FIRST_WORD)
    except BaseException:
        instance.stop(0)
        raise
    return instance


def _enter(options: AgentInstanceOptions, config: WorkerConfig, clock: Clock, entropy: Entropy) -> Entry:
    """Return the way to the hub that the options name, else the one of the surroundings."""
    base_url = options.base_url
    if options.pubnub is not None:
        return enter_by_client(config.connection, options.pubnub, base_url)
    told = options.cdm_url or config.connection.cdm_url
    if told is None and base_url is not None:
        told = f"{base_url.rstrip('/')}{CDM_PATH}"
    local_allowed = config.embedded_hub if options.embedded_hub is None else options.embedded_hub
    where = replace(config.connection, cdm_url=told)
    entry = enter(where, local_allowed=local_allowed, clock=clock, entropy=entropy)
    entry = replace(entry, base_url=base_url, transport=options.transport or where.transport)
    return replace(entry, cdm=entry.told(entry.cdm))
