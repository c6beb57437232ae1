"""The hub: one thread with one loop that serves the ledger over HTTP and rings the doorbell on its own network."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

from blocks_worker.concurrency import Clock, Deadline, Entropy, ServiceThread
from blocks_worker.config import DEFAULT_PORT, is_loopback_host
from blocks_worker.errors import BlocksError, ConfigurationError, FolderInUseError
from blocks_worker.hub.app import Entry
from blocks_worker.hub.core import Core
from blocks_worker.hub.kept import Kept
from blocks_worker.hub.place import check_local
from blocks_worker.hub.program import release
from blocks_worker.hub.server import Server, server_config
from blocks_worker.processes import this_process
from blocks_worker.state import LocalHub, StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from blocks_worker.config import HubConfig
    from blocks_worker.hub.network.crowd import Crowd
    from blocks_worker.hub.network.faults import Faults

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)

#: Ports behind the wanted one that an embedded hub tries.
PORTS_TRIED = 20
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
#: Seconds for a fault to begin or end.
FAULT_TIMEOUT = 5.0

_WILDCARDS = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104 - refused below


class Hub:
    """Be a hub in this process.

    1. Takes the state folder's lock, so that one hub at most writes its ledger.
    2. Runs the loop on its thread "hub": HTTP server, network, sweeps.
    3. Announces itself in the state folder once it answers, and withdraws that before it stops.
    """

    def __init__(self, config: HubConfig, *, clock: Clock | None = None, entropy: Entropy | None = None) -> None:
        self._config = config
        self._clock = clock or Clock()
        self._entropy = entropy or Entropy()
        self._folder = StateFolder(config.state_dir)
        self._thread = ServiceThread("hub", self._run)
        #: Set when the ledger is open, or never will be.
        self._settled = threading.Event()
        self._started: Future[LocalHub] = Future()
        self._ending = threading.Event()
        self._entry = Entry()
        self._server: Server | None = None
        self._served: tuple[asyncio.AbstractEventLoop, Core] | None = None
        self._deadline: Deadline | None = None

    def start(self, timeout: float = START_TIMEOUT) -> LocalHub:
        """Start and return where the hub is, once it answers.

        `timeout` counts from when the ledger is open. To check a large one and to bring it up takes as long as it
        takes; to give up would only mean to begin again.

        Raises:
            ConfigurationError: the configuration or its surroundings do not allow it; the text says what to do.
            StoreError: the ledger cannot be opened.
        """
        _check(self._config)
        self._folder.prepare()
        check_local(self._config.state_dir)
        if not self._folder.try_lock():
            raise FolderInUseError(
                f"another hub runs on the state folder {self._config.state_dir} {self._folder.held_by()}; "
                "stop it, or use it, "
                "or give this one a folder of its own with --state-dir or BLOCKS_STATE_DIR"
            )
        self._thread.start()
        try:
            self._settled.wait()
            return self._started.result(timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self, deadline: Deadline | None = None) -> None:
        """Finish what is being answered, flush the ledger, close everything."""
        self._deadline = deadline or self._default_deadline()
        self._ending.set()
        if self._server is not None:
            self._server.should_exit = True
        if not self._thread.join(self._deadline.remaining()):
            _logger.error("hub_left_behind")
            return
        self._folder.unlock()

    def is_alive(self) -> bool:
        """Tell whether it runs; it ends by itself only when its ledger failed."""
        return self._thread.is_alive()

    def turn_away(self, *, everybody: bool) -> None:
        """Answer every call with 503, as while it starts, or none any more, for tests. What is being answered is."""
        self._entry.turns_away = everybody

    def behind(self) -> float:
        """Return for how many seconds loop and ledger have not got through a sweep, which is due twice a second."""
        served = self._served
        return 0.0 if served is None else max(0.0, self._clock.monotonic() - served[1].swept)

    def play(self, fault: Callable[[Faults], Coroutine[Any, Any, _T]], timeout: float = FAULT_TIMEOUT) -> _T:
        """Have a fault of the local network begin or end, for tests; return what it gives once it has.

        Raises:
            RuntimeError: the hub does not run.
        """
        served = self._served
        if served is None or not self.is_alive():
            raise RuntimeError("the hub does not run, and its network neither")
        loop, core = served
        return asyncio.run_coroutine_threadsafe(fault(core.network.faults), loop).result(timeout)

    def _default_deadline(self) -> Deadline:
        return Deadline(STOP_TIMEOUT, self._clock)

    def _run(self) -> None:
        loop = _new_loop()
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self._serve())
        except BlocksError as error:
            self._report(error)
        except Exception as error:  # the top of the thread: whoever waits for the start is told
            _logger.exception("hub_died")
            self._report(error)
        finally:
            self._settled.set()
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()

    def _report(self, error: Exception) -> None:
        if not self._started.done():
            self._started.set_exception(error)
        else:
            _logger.error("hub_failed", extra={"reason": str(error)})

    async def _serve(self) -> None:
        """Open everything, serve until told to stop, close in reverse order."""
        async with AsyncExitStack() as stack:
            kept = Kept(self._folder, self._entropy)
            core = Core(self._config, kept, clock=self._clock, entropy=self._entropy)
            core.open_ledger(stack, lambda: self._deadline or self._default_deadline())
            self._settled.set()
            await core.open(stack, self._folder.local_key())
            server = self._server = await self._listen(self._entry, kept, core.crowd)
            stack.push_async_callback(server.shutdown)
            address = self._address(server.port, kept)
            self._entry.app = core.app(address.url)
            tending = asyncio.ensure_future(core.tend())
            tending.add_done_callback(lambda _task: server.end())
            stack.push_async_callback(_cancelled, tending)
            self._folder.announce(address)
            stack.callback(self._folder.withdraw)
            if self._ending.is_set():
                server.end()
            self._served = asyncio.get_running_loop(), core
            stack.callback(self._gone)
            self._started.set_result(address)
            _logger.info("hub_started", extra={"url": address.url, "origin": address.origin})
            await server.main_loop()
        _logger.info("hub_stopped")

    def _gone(self) -> None:
        self._served = None

    async def _listen(self, entry: Entry, kept: Kept, crowd: Crowd) -> Server:
        """Bind the wanted port; an embedded hub takes the kept one, or a later one, when that is taken."""
        last: OSError | None = None
        for port in self._ports(kept):
            server = Server(server_config(self._config, entry, port, crowd))
            last = await server.bind()
            if last is None:
                if self._is_plain or server.port == DEFAULT_PORT:
                    kept.keep_port("hub", server.port)
                return server
            if last.errno != errno.EADDRINUSE:
                break
        raise _not_bound(self._config, last)

    def _ports(self, kept: Kept) -> list[int]:
        wanted = self._config.port
        if not self._config.embedded or wanted == 0:
            return [wanted]
        # A port that somebody chose is where others will look; else the kept one is where they looked before.
        first = self._config.port_before or (kept.port("hub") if self._is_plain else 0)
        candidates = [first or wanted, *range(wanted, min(wanted + PORTS_TRIED, 2**16))]
        return list(dict.fromkeys(candidates))

    @property
    def _is_plain(self) -> bool:
        """Whether nobody chose the port: only where such a hub came to be instead is worth to be kept."""
        return self._config.embedded and self._config.port == DEFAULT_PORT and not self._config.port_before

    def _address(self, port: int, kept: Kept) -> LocalHub:
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        scheme = "https" if self._config.tls_cert else "http"
        process = this_process()
        return LocalHub(
            url=f"{scheme}://{host}:{port}",
            origin=f"http://{host}:{kept.port('network')}",
            host=process.host,
            pid=process.pid,
            started=process.started,
            version=release(),
        )


def _check(config: HubConfig) -> None:
    """Refuse what would let others in by mistake."""
    if config.host in _WILDCARDS:
        raise ConfigurationError(f"host {config.host!r} is every address; name the one that callers are to use")
    if (config.tls_cert is None) != (config.tls_key is None):
        raise ConfigurationError("TLS needs both --tls-cert and --tls-key")
    if config.tls_cert is None and not config.public and not is_loopback_host(config.host):
        raise ConfigurationError(
            f"{config.host} can be reached by others and tokens would travel in clear text; "
            "give --tls-cert and --tls-key, or say --public when the network around is yours alone"
        )


def _not_bound(config: HubConfig, error: OSError | None) -> ConfigurationError:
    if error is not None and error.errno != errno.EADDRINUSE:
        return ConfigurationError(f"the hub cannot listen on {config.host}:{config.port}: {error.strerror or error}")
    return ConfigurationError(
        f"port {config.port} on {config.host} is in use; stop the program that has it, or choose another with --port "
        "(where blocks-run was to start the hub: in BLOCKS_CDM_URL)"
    )


async def _cancelled(task: asyncio.Future[None]) -> None:
    """Cancel the task and wait for its end."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _new_loop() -> asyncio.AbstractEventLoop:
    if find_spec("uvloop") is not None:
        import uvloop

        return cast("asyncio.AbstractEventLoop", uvloop.new_event_loop())
    return asyncio.new_event_loop()
