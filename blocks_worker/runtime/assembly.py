"""What one instance is made of: its login, its way to the network, its worker."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker import __version__
from blocks_worker.controlplane.tokens import InstanceLogin
from blocks_worker.processes import this_process
from blocks_worker.protocol.leases import ConnectRequest
from blocks_worker.runtime.instance_streams import InstanceStreams
from blocks_worker.streams.options import writer_options
from blocks_worker.transports.opening import Transports, open_link
from blocks_worker.transports.pubnub.settings import PubNubSettings
from blocks_worker.worker.spool import SpoolPlace
from blocks_worker.worker.worker import Worker, WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.config import WorkerConfig
    from blocks_worker.controlplane.cdm import CdmConfig
    from blocks_worker.controlplane.http import Http
    from blocks_worker.controlplane.whereabouts import Whereabouts
    from blocks_worker.protocol.leases import ConnectAnswer
    from blocks_worker.protocol.tasks import BillingMode
    from blocks_worker.runtime.entry import Entry
    from blocks_worker.runtime.options import AgentInstanceOptions, InstancePlan
    from blocks_worker.transports.base import Grants, Transport


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an instance is told, and what it stands on."""

    options: AgentInstanceOptions
    config: WorkerConfig
    plan: InstancePlan
    entry: Entry
    where: Whereabouts[CdmConfig]
    http: Http
    clock: Clock
    entropy: Entropy

    @property
    def network_user(self) -> str:
        """Who listens on the network."""
        given = self.options.pubnub
        return self.plan.instance_id if given is None else str(given.config.user_id)


class Assembly:
    """Make and hold the parts of one instance."""

    def __init__(self, about: Surroundings, *, task_client: Callable[[], object], on_end: Callable[[], None]) -> None:
        self._about = about
        self.login = InstanceLogin(
            http=about.http,
            api_key=about.entry.api_key,
            request=_connect_request(about),
            clock=about.clock,
            entropy=about.entropy,
            is_hub=about.where.look,
            cure=about.entry.cure,
        )
        #: What the transports counted, one after another: the numbers go on where the network has moved.
        self._network_counters: dict[str, int] = {}
        #: What its calls and channels go over; None: HTTP and PubNub.
        self.link = open_link(about.where, self.login, clock=about.clock, entropy=about.entropy)
        if self.link is not None:
            about.http.carry_by(self.link.call)
        self._transports = Transports(about.where, self.link, clock=about.clock, entropy=about.entropy)
        self._streams = InstanceStreams(
            self.login.api,
            settings=lambda mode: network_settings(about.where.now, mode, about.plan.instance_id),
            transports=self._transports,
            clock=about.clock,
            entropy=about.entropy,
        )
        self.worker = Worker(
            settings=_settings(about),
            handler=about.plan.handler,
            login=self.login,
            open_transport=self._open_transport,
            streams=self._streams,
            clock=about.clock,
            entropy=about.entropy,
            task_client=task_client,
            middleware=about.options.middleware,
            on_fatal=about.options.on_fatal,
            # Nobody calls `stop` where an error ends the script; what is left would keep its process alive.
            on_end=on_end,
            network_counters=self._network_counters,
        )

    @property
    def billing_mode(self) -> BillingMode:
        """The agent's, once the hub has told it."""
        return "paid" if self._streams.billing_mode == "paid" else "free"

    def network(self) -> PubNubSettings:
        """Return where its network is, and who it is there."""
        return network_settings(self._about.where.now, self.billing_mode, self._about.network_user)

    def _open_transport(self, answer: ConnectAnswer, grants: Grants) -> Transport:
        if self._about.options.token is not None:
            grants = FirstGrant(grants, self._about.options.token)
        self._streams.billing_mode = answer.billing_mode
        return self._transports.open(
            self.network, grants=grants, producer=self.login.incarnation, counters=self._network_counters
        )


class FirstGrant:
    """Begin with a grant that the user gave, until it is refused or the login has a newer one than its first."""

    def __init__(self, login: Grants, first: str) -> None:
        self._login = login
        self._first: str | None = first
        self._at_start = login.token()

    def token(self) -> str | None:
        """Return the grant of now."""
        renewed = self._login.token()
        if self._first is None or renewed != self._at_start:
            self._first = None
            return renewed
        return self._first

    def refresh(self, refused: str | None) -> bool:
        """Have another one, because this one was refused; tell whether there is."""
        if self._first is not None and refused == self._first:
            self._first = None
            return True
        return self._login.refresh(refused)


def network_settings(cdm: CdmConfig, billing_mode: str, user_id: str) -> PubNubSettings:
    """Return how somebody gets to the network of a billing mode."""
    keys = cdm.keyset(billing_mode)
    return PubNubSettings(
        origin=cdm.origin,
        publish_key=keys.publish_key,
        subscribe_key=keys.subscribe_key,
        user_id=user_id,
        hold=cdm.pubnub.hold,
        retention_limit=cdm.pubnub.retention_limit,
        retention_age=cdm.pubnub.retention_age,
    )


def _spool(about: Surroundings) -> SpoolPlace:
    return SpoolPlace.of(
        about.config.connection.state_dir / "spool",
        # A hub's address may change with a restart, its keys stay.
        hub=about.entry.cdm.playground.subscribe_key,
        api_key=about.entry.api_key,
        always=about.plan.delivery == "at_most_once",
    )


def _settings(about: Surroundings) -> WorkerSettings:
    plan, config = about.plan, about.config
    return WorkerSettings(
        agent_name=plan.agent_name,
        instance_id=plan.instance_id,
        concurrency=plan.concurrency,
        max_runtime=float(plan.max_running_time_sec),
        progress_timeout=None if plan.progress_timeout_sec is None else float(plan.progress_timeout_sec),
        drain_timeout=config.drain_timeout if plan.drain_timeout is None else plan.drain_timeout,
        strict_results=about.options.strict_results,
        inline_limit=config.inline_limit,
        card=plan.declared,
        stream_options=writer_options(config.streams),
        heartbeat_interval=plan.heartbeat_interval,
        on_error=about.options.on_error,
        on_cancel_task=about.options.on_cancel_task,
        network=about.options.pubnub,
        max_rss=None if config.max_rss_mb is None else config.max_rss_mb * 1024**2,
        spool=_spool(about),
    )


def _connect_request(about: Surroundings) -> ConnectRequest:
    plan, options = about.plan, about.options
    return ConnectRequest(
        agent_name=plan.agent_name,
        instance_id=plan.instance_id,
        incarnation=about.entropy.name(),
        listing=plan.listing,  # type: ignore[arg-type]  # checked with the options
        description=plan.description,
        concurrency=plan.concurrency,
        expected_instances=plan.expected_instances,
        max_pending_backlog=plan.max_pending_backlog,
        max_running_time_sec=plan.max_running_time_sec,
        progress_timeout_sec=plan.progress_timeout_sec,
        concurrency_limit=plan.concurrency_limit,
        delivery=plan.delivery,  # type: ignore[arg-type]  # checked with the card
        started_at=about.clock.wall_ms(),
        sdk_version=__version__,
        device_os=platform.system(),
        card=plan.card,
        card_ref=options.card_ref,
        card_summary=options.card_summary,
        process=this_process(),
        user_id=None if options.pubnub is None else about.network_user,
    )
