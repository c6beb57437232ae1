"""The parts of one hub put together: ledger, services, network, doors; everything here lives on the hub's loop."""

from __future__ import annotations

import asyncio
import errno
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.concurrency import SteadyClock
from blocks_worker.config import is_loopback_host
from blocks_worker.errors import ConfigurationError, StoreError
from blocks_worker.hub.api.auth import LOCAL_OWNER, AuthDoors
from blocks_worker.hub.api.batches import Writes, written
from blocks_worker.hub.api.cdm import KEYSET_OF_MODE, CdmDoors, Surroundings
from blocks_worker.hub.api.files import FileDoors
from blocks_worker.hub.api.health import HealthDoors
from blocks_worker.hub.api.keys import KeyDoors
from blocks_worker.hub.api.openapi import DocumentDoors
from blocks_worker.hub.api.registry import RegistryDoors
from blocks_worker.hub.api.signing import SigningDoors
from blocks_worker.hub.api.streams import StreamDoors
from blocks_worker.hub.api.tasks import TaskDoors
from blocks_worker.hub.api.work import WorkDoors
from blocks_worker.hub.app import App
from blocks_worker.hub.audit import Audit
from blocks_worker.hub.auth.guard import Guard
from blocks_worker.hub.auth.logins import Logins
from blocks_worker.hub.auth.revoked import RevokedKeys
from blocks_worker.hub.auth.signing import SigningKeys
from blocks_worker.hub.auth.tokens import Lives, Tokens, derived, hashed, network_key
from blocks_worker.hub.file_service import FileService
from blocks_worker.hub.files import FileStore
from blocks_worker.hub.instance_service import InstanceService
from blocks_worker.hub.link import Links
from blocks_worker.hub.measures import Measures
from blocks_worker.hub.network.crowd import Crowd
from blocks_worker.hub.network.network import LocalNetwork, NetworkSettings
from blocks_worker.hub.publications import Publisher
from blocks_worker.hub.readiness import Readiness
from blocks_worker.hub.resting import Resting
from blocks_worker.hub.restored import begin_anew
from blocks_worker.hub.room import Room
from blocks_worker.hub.shares import Shares
from blocks_worker.hub.store import credentials
from blocks_worker.hub.store.ledger import Ledger
from blocks_worker.hub.store.life import Life
from blocks_worker.hub.store.store import Store
from blocks_worker.hub.sweeper import Sweeper
from blocks_worker.hub.task_service import TaskService
from blocks_worker.hub.traffic import Traffic
from blocks_worker.hub.watch import Watch
from blocks_worker.observability.families import HUB
from blocks_worker.observability.metrics import Metrics
from blocks_worker.processes import is_alive
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.config import HubConfig
    from blocks_worker.hub.kept import Kept

_logger = logging.getLogger(__name__)

DATABASE = "hub.sqlite3"
#: Folder of the stored files, and how many threads touch the disk for them.
FILES = "files"
FILE_THREADS = 4
#: Seconds between two sweeps: a worker that was killed on this host is noticed within two of them.
SWEEP = 0.5
#: Seconds between two sweeps after which the hub itself was not there: stopped, or asleep with its machine.
STOOD_STILL = 5.0
#: Sweeps between two savings of what was published, and of the number of the last control message.
SAVE_EVERY = 2
#: Sweeps between two looks for files that nobody needs.
PURGE_FILES_EVERY = 4
#: Sweeps between two looks at the free room of the disk, and at the tokens and grants of links.
LOOK_EVERY = 4
#: Errors of the ledger after which this hub may serve it no more.
_ENDING = frozenset({"commit_failed", "taken", "writer_died"})
#: Events that are read at once to be published again.
REPUBLISHED = 500


class Core:
    """Own what a hub serves; `open_ledger`, then `open` start it, the stack given to them ends it in reverse order."""

    def __init__(self, config: HubConfig, kept: Kept, *, clock: Clock, entropy: Entropy) -> None:
        self._config = config
        self._kept = kept
        self._entropy = entropy
        self._clock = clock
        self._steady = SteadyClock(clock)
        self._signing = SigningKeys.of(StateFolder(config.state_dir), clock=clock, entropy=entropy)
        self._lives = Lives(access=config.access_life, refresh=config.refresh_life, grant=config.grant_life)
        self._audit = Audit(config.state_dir, clock)
        settings = NetworkSettings(
            hold=config.hold,
            retention_limit=config.retention_limit,
            hosts=(config.host,),
            testing=config.testing,
            address_connections=config.quotas.address_connections,
        )
        #: The connections of each address to the hub itself.
        self.crowd = Crowd("hub", config.quotas.address_connections)
        self._revoked = RevokedKeys()
        #: Whether others may have written to the ledger since it was looked whose keys were taken back.
        self._is_foreign = True
        self.network = LocalNetwork(
            list(kept.keysets.values()),
            secrets=lambda: map(network_key, self._signing.of_grants()),
            clock=clock,
            entropy=entropy,
            settings=settings,
            revoked=self._revoked,
            on_denied=self._audit.refused,
        )
        keys = {mode: kept.keysets[name].subscribe_key for mode, name in KEYSET_OF_MODE.items()}
        self._rounds = self.network.shared.rounds
        self.publisher = Publisher(publish=self.network.publish, keys=keys, entropy=entropy)
        self._room = Room(config.state_dir, reserve_bytes=config.reserve_bytes)
        self._life = Life(entropy.name())
        self.store = Store(
            config.state_dir / DATABASE,
            clock=clock,
            on_commit=self.publisher.committed,
            on_full=self._room.release,
            on_acts=self._audit.acted,
            on_foreign=self._on_foreign,
            synchronous=config.synchronous,
            round_=self._rounds,
        )
        self._tokens = Tokens(self._signing, clock=clock, entropy=entropy)
        self._guard = Guard(self._tokens, clock, self._revoked)
        self._logins = Logins(
            tokens=self._tokens,
            signing=self._signing,
            lives=self._lives,
            steady=self._steady,
            entropy=entropy,
            audit=self._audit,
        )
        secret, numbers = derived(kept.secret, "ledger"), config.quotas.told_with(config.numbers)
        self._numbers, self._shares = numbers, Shares(config.quotas, self._steady)
        self._tasks = TaskService(
            numbers=numbers,
            steady=self._steady,
            entropy=entropy,
            secret=secret,
            admits=self._room.admits,
            shares=self._shares,
            follows=lambda mode, channel: self.network.is_followed(keys[mode], channel),
        )
        self._instances = InstanceService(
            tasks=self._tasks,
            numbers=numbers,
            steady=self._steady,
            clock=clock,
            entropy=entropy,
            secret=secret,
            is_alive=is_alive,
        )
        self._disk = FileStore(config.state_dir / FILES)
        self._files = FileService(steady=self._steady, entropy=entropy, admits=self._room.admits, shares=self._shares)
        self._file_threads = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="hub-files")
        #: What was saved last: the place of the newest published event, the number of the last control message.
        self._saved = (0, 0)
        #: Id of the key in the state folder, once that was let in.
        self._local_key = ""
        self._links: Links | None = None
        #: By the monotonic clock: when the last sweep was over, and when one last looked at the instances.
        self.swept = self._looked = clock.monotonic()
        self._sweeper = Sweeper(tasks=self._tasks, instances=self._instances)
        self._resting = Resting(self.store, self._instances, self._sweeper)
        self._readiness = Readiness(self.store, self.network, clock)
        self._measures = Measures(
            store=self.store,
            instances=self._instances,
            sweeper=self._sweeper,
            publisher=self.publisher,
            network=self.network,
            crowds={"hub": self.crowd, "network": self.network.crowd},
            readiness=self._readiness,
            shares=self._shares,
            admits=self._room.admits,
            clock=clock,
            steady=self._steady,
        )
        self._metrics_thread = ThreadPoolExecutor(1, thread_name_prefix="hub-metrics")

    def open_ledger(self, stack: AsyncExitStack, deadline: Callable[[], Deadline]) -> None:
        """Open the ledger, which takes long when it is an old one and large.

        `deadline` is asked for when it is closed, which ends its writer thread.
        """
        self._room.look()
        self.store.open()
        stack.callback(lambda: self.store.close(deadline()))
        self.store.write(self._begin).result()

    async def open(self, stack: AsyncExitStack, local_key: str) -> None:
        """Let the local key in, start the network and publish again what may be unsaid."""
        self._tasks.bell.go_on_after(self.store.read(Ledger.rung))
        await written(self.store, lambda ledger: self._let_in(ledger, local_key))
        self._local_key = credentials.key_id(hashed(local_key))
        self._look_for_revoked()
        how = {"host": self._config.host, "public": self._config.public, "tls": self._config.tls_cert is not None}
        self._audit.acted([("hub_started", {**how, "testing": self._config.testing})])
        stack.callback(self._file_threads.shutdown)
        stack.callback(self._metrics_thread.shutdown)
        self._rounds.start(asyncio.get_running_loop())
        self.publisher.start(self._rounds, self._clock.monotonic)
        stack.push_async_callback(self._save_numbers)
        await self._start_network()
        stack.push_async_callback(self.network.stop)
        await self._republish()

    def app(self, url: str) -> App:
        """Return the application that serves this hub at this address."""
        network_host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        surroundings = Surroundings(url, f"http://{network_host}:{self._kept.port('network')}", self._kept.keysets)
        store, guard, tasks, instances = self.store, self._guard, self._tasks, self._instances
        writes = Writes(store, self._rounds.hand)
        auth = AuthDoors(
            store=store,
            logins=self._logins,
            guard=guard,
            tasks=tasks,
            instances=instances,
            surroundings=surroundings,
            numbers=self._numbers,
            steady=self._steady,
        )
        doors = [
            *TaskDoors(writes=writes, tasks=tasks, guard=guard).doors(),
            *WorkDoors(writes=writes, tasks=tasks, instances=instances, guard=guard, logins=self._logins).doors(),
            *StreamDoors(store=store, guard=guard, logins=self._logins, steady=self._steady, audit=self._audit).doors(),
            *auth.doors(),
            *KeyDoors(
                store=store,
                logins=self._logins,
                revoked=self._revoked,
                instances=instances,
                local_key=self._local_key,
                steady=self._steady,
                entropy=self._entropy,
            ).doors(),
            *SigningDoors(
                store=store,
                logins=self._logins,
                signing=self._signing,
                lives=self._lives,
                audit=self._audit,
                executor=self._file_threads,
                entropy=self._entropy,
            ).doors(),
            *RegistryDoors(store=store, instances=instances, guard=guard, steady=self._steady).doors(),
            *FileDoors(
                store=store, service=self._files, disk=self._disk, guard=guard, executor=self._file_threads
            ).doors(),
            *CdmDoors(surroundings, self.network.settings, self._config.transport).doors(),
        ]
        traffic = Traffic(self._clock, [door.method for door in doors])
        metrics = Metrics(HUB, lambda: [*self._measures.samples(), *traffic.samples()])
        doors += HealthDoors(
            readiness=self._readiness,
            metrics=metrics,
            store=store,
            logins=self._logins,
            executor=self._metrics_thread,
            is_private=is_loopback_host(self._config.host) and not self._config.public,
        ).doors()
        doors += DocumentDoors(doors).doors()
        watch, hosts = Watch(self._audit, guard), [self._config.host]
        return App(doors, hosts=hosts, entropy=self._entropy, traffic=traffic, watch=watch, links=self._serve_links)

    def _serve_links(self, app: App) -> Links:
        self._links = Links(
            carry=app.carry,
            network=self.network,
            guard=self._guard,
            life=self._entropy.name(8),
            on_refused=self._audit.refused,
            on_left=self._tasks.granted.left,
        )
        return self._links

    async def tend(self) -> None:
        """Sweep the ledger for ever; return when its disk failed, or another hub has it, and nothing may be said."""
        turn = 0
        self._looked = self._clock.monotonic()  # what came before was the start, which may take long
        while True:
            self.swept = self._clock.monotonic()
            await asyncio.sleep(SWEEP)
            turn += 1
            if turn % LOOK_EVERY == 0:
                self._room.look()
            try:
                if self._clock.monotonic() - self._looked <= STOOD_STILL and self._resting.leaves_out():
                    self._looked = self._clock.monotonic()
                else:
                    await self._resting.write(self._sweep)
                    self._readiness.swept()
                if self._is_foreign or turn % LOOK_EVERY == 0:
                    self._look_for_revoked()
                if turn % SAVE_EVERY == 0:
                    await self._save_numbers()
                if turn % PURGE_FILES_EVERY == 0:
                    await self._purge_files()
            except StoreError as error:
                if error.code in _ENDING:
                    _logger.critical("ledger_failed", extra={"reason": str(error)})
                    return
                _logger.warning("sweep_put_off", extra={"reason": str(error)})
            except Exception:  # the top of one sweep: reported, the next one is due
                _logger.exception("sweep_failed")

    def _begin(self, ledger: Ledger) -> None:
        """Take the ledger over, and void what it promised when it is a copy that came back."""
        self._life.begin(ledger)
        begin_anew(ledger, self._tasks, self._instances)

    def _sweep(self, ledger: Ledger) -> None:
        """Sweep once, on the ledger's thread; after a sleep of the machine nobody is to blame for his silence."""
        before, self._looked = self._looked, self._clock.monotonic()
        if self._looked - before > STOOD_STILL:
            _logger.warning("hub_stood_still", extra={"seconds": round(self._looked - before, 1)})
            self._instances.stood_still()
        self._sweeper.sweep(ledger, may_rest=self._resting.is_calm)

    def _on_foreign(self, ledger: Ledger) -> None:
        """Take note, on the ledger's thread, that somebody else has written to it."""
        self._is_foreign = True
        self._life.check(ledger)

    def _look_for_revoked(self) -> None:
        if self._is_foreign:
            self._is_foreign = False
            self._revoked.load(self.store.read(lambda ledger: credentials.revoked_ids(ledger.connection)))
        if self._links is not None:
            self._links.look()

    def _let_in(self, ledger: Ledger, local_key: str) -> None:
        now = self._steady.now_ms()
        credentials.add_key(ledger.connection, hashed(local_key), owner=LOCAL_OWNER, name="local", now=now)

    async def _start_network(self) -> None:
        """Listen where the last start did; another port only when that one was taken meanwhile."""
        port = self._config.network_port or self._kept.port("network")
        try:
            bound = await self.network.start(self._config.host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or self._config.network_port:
                raise ConfigurationError(
                    f"the network cannot listen on {self._config.host}:{port} ({error.strerror}); "
                    "choose another with --network-port"
                ) from error
            _logger.warning("network_port_changed", extra={"port": port})
            bound = await self.network.start(self._config.host, 0)
        self._kept.keep_port("network", bound)

    async def _republish(self) -> None:
        """Publish what was committed when the last hub died, before anybody hears of newer events."""
        seq = self.store.read(lambda ledger: ledger.published())
        while True:
            missed = self.store.read(partial(Ledger.events_after, seq=seq, limit=REPUBLISHED))
            if not missed:
                return
            self.publisher.publish(missed)
            seq = self.publisher.published_seq
            await asyncio.sleep(0)

    async def _purge_files(self) -> None:
        """Hide files whose time is over, take their bytes away, then forget them."""
        keys = await self._resting.write(self._files.begin_purge)
        if keys:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._file_threads, self._disk.remove, keys)
            await self._resting.write(lambda ledger: self._files.end_purge(ledger, keys))

    async def _save_numbers(self) -> None:
        """Save how far the publisher and the bell have come."""
        numbers = self.publisher.published_seq, self._tasks.bell.sequence
        if numbers != self._saved:
            await self._resting.write(partial(_saved, numbers=numbers))
            self._saved = numbers


def _saved(ledger: Ledger, numbers: tuple[int, int]) -> None:
    published, rung = numbers
    if published:
        ledger.save_published(published)
    ledger.save_rung(rung)
