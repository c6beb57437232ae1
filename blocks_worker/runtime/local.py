"""Join the local hub of this user, or start one in this process; start it again when its process dies."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Clock, Deadline, Entropy, Periodic
from blocks_worker.config import DEFAULT_PORT, HubConfig, environment
from blocks_worker.controlplane.whereabouts import not_there, port_of
from blocks_worker.errors import BlocksError, ConfigurationError, FolderInUseError, HubUnavailableError
from blocks_worker.quotas import quotas_of
from blocks_worker.state import LocalHub, StateFolder
from blocks_worker.whose import working_for

if TYPE_CHECKING:
    from pathlib import Path

    from blocks_worker.hub.hub import Hub

_logger = logging.getLogger(__name__)

#: Seconds between two looks whether the hub still runs.
_WATCH_INTERVAL = 0.5
#: Seconds until the next try when the hub could not be started.
_FAILED_INTERVAL = 5.0
#: Seconds for a hub that ended by itself to be cleared away.
_HUB_STOP_TIMEOUT = 5.0
#: Seconds between two tries to find or start the hub.
_TRY_INTERVAL = 0.05


class LocalHubKeeper:
    """See to it that this user has a local hub: whoever holds the folder's lock runs it.

    1. `find` joins the hub that runs, or starts one here: at `told`, where the user said an address, and nowhere else.
    2. A thread looks on: when the hub's process is gone, one of those who look on starts it anew, on the
       same data and, where they are free, the same ports.
    3. After `step_back` none is started here; one that runs here goes on.
    4. `stop` ends a hub that runs here; another process of this user may then take over.
    """

    def __init__(self, state_dir: Path, *, told: str | None, clock: Clock, entropy: Entropy) -> None:
        self._folder = StateFolder(state_dir)
        self._told = told
        self._port_before = 0
        self._clock = clock
        self._entropy = entropy
        self._hub: Hub | None = None
        self._stopping = False
        self._watch = Periodic("local-hub-watch", self._look, _WATCH_INTERVAL, entropy)

    @property
    def runs_hub(self) -> bool:
        """Whether the hub runs here and nowhere else."""
        return self._hub is not None

    def find(self, timeout: float) -> LocalHub:
        """Return the local hub, started here when nobody runs one.

        Raises:
            HubUnavailableError: another process holds the lock and announced nothing in time.
            ConfigurationError: the folder or the port cannot be used, or the hub runs elsewhere than where it was told.
        """
        self._folder.prepare()
        deadline = Deadline(timeout, self._clock)
        found = self._join_or_start()
        while found is None:
            if deadline.expired():
                raise HubUnavailableError(str(self._folder.path), "its lock is held, but no hub was announced")
            self._clock.pause(deadline.within(_TRY_INTERVAL))
            found = self._join_or_start()
        elsewhere = not_there(self._told, found)
        if elsewhere:
            raise ConfigurationError(elsewhere)
        self._watch.start()
        return found

    def step_back(self) -> None:
        """Start no hub from now on: who is about to end would only take it over for a moment."""
        self._stopping = True
        if self._hub is None:
            self._watch.stop()

    def stop(self, deadline: Deadline) -> None:
        """End the watch, and the hub when it runs here."""
        self.step_back()
        self._watch.stop()
        self._watch.join(deadline.remaining())
        self._end_hub(deadline)

    def _end_hub(self, deadline: Deadline) -> None:
        hub, self._hub = self._hub, None
        if hub is not None:
            with working_for({}):
                hub.stop(deadline)

    def _join_or_start(self) -> LocalHub | None:
        found = self._folder.discovered()
        if found is None and not self._stopping:
            found = self._start()
        if found is not None:
            self._port_before = port_of(found.url)
        return found

    def _start(self) -> LocalHub | None:
        """Start the hub here; None when somebody else is about to. It is everybody's, whoever found none."""
        from blocks_worker.hub.hub import Hub

        config = HubConfig(
            state_dir=self._folder.path,
            port=DEFAULT_PORT if self._told is None else port_of(self._told),
            # At another address than the one that was told it is found by those who were with it, and by nobody else.
            embedded=self._told is None or self._port_before > 0,
            port_before=self._port_before,
            quotas=quotas_of(environment()),
        )
        with working_for({}):
            hub = Hub(config, clock=self._clock, entropy=self._entropy)
            try:
                address = hub.start()
            except FolderInUseError:
                return None
        self._hub = hub
        if self._stopping:
            # The end was asked for while it started: nobody else stops it.
            self._end_hub(Deadline(_HUB_STOP_TIMEOUT))
            return None
        with working_for({}):
            _logger.info("local_hub_started", extra={"url": address.url, "folder": str(self._folder.path)})
        return address

    def _look(self) -> float | None:
        """See whether the hub still runs; return the pause before the next look, longer after a failure."""
        if self._hub is not None and not self._hub.is_alive():
            self._end_hub(Deadline(_HUB_STOP_TIMEOUT))
        if self._hub is not None or self._stopping:
            return None
        try:
            self._join_or_start()
        except BlocksError as error:
            _logger.error("local_hub_failed", extra={"error": str(error)})  # noqa: TRY400 - its sentence says it all
            return _FAILED_INTERVAL
        return None
