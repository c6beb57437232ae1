"""Find and enter the hub: the one that is configured, or the local one of this user."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blocks_worker.concurrency import Backoff, Deadline
from blocks_worker.config import is_loopback_url
from blocks_worker.controlplane.cdm import (
    CdmApiConfig,
    CdmConfig,
    CdmKeyset,
    CdmPubNub,
    checked_transport,
    fetch_cdm_config,
)
from blocks_worker.controlplane.refusals import key_cure
from blocks_worker.controlplane.whereabouts import CDM_PATH, LOOK_TIMEOUT, document_now, port_of
from blocks_worker.errors import BlocksError, HubUnavailableError, NotConfiguredError
from blocks_worker.observability.redact import redact
from blocks_worker.runtime.local import LocalHubKeeper
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.config import Connection

_logger = logging.getLogger(__name__)

#: Seconds that a start looks for a hub before it gives up.
FIND_TIMEOUT = 30.0
#: Seconds for the local hub to end again when the start failed.
HUB_STOP_TIMEOUT = 5.0
#: Seconds for the look whether a hub answers at an address of this machine.
_PROBE_TIMEOUT = 2.0


@dataclass(frozen=True)
class Entry:
    """How to enter a hub: its document, the key, and the keeper when the hub is the user's local one.

    `cdm_url` tells where the document is now: where the user said, or where the local hub of today says.
    """

    cdm: CdmConfig
    api_key: str
    cdm_url: Callable[[], str]
    keeper: LocalHubKeeper | None = None
    key_from_environment: bool = False
    #: All of it was told: nothing is looked for again.
    is_told: bool = False
    #: The hub's address where the user told it; else the document's counts.
    base_url: str | None = None
    #: The transport where the user told it; else the document's counts.
    transport: str | None = None

    @property
    def cure(self) -> str:
        """What to do when the hub does not take the key."""
        is_local = self.keeper is not None or is_loopback_url(self.cdm.hub_url)
        return key_cure(given=False, environment=self.key_from_environment, is_local=is_local)

    def find(self) -> CdmConfig:
        """Return the document of now; one try."""
        return self.told(fetch_cdm_config(self.cdm_url(), timeout=LOOK_TIMEOUT))

    def told(self, cdm: CdmConfig) -> CdmConfig:
        """Return the document with what the user told in its stead.

        Raises:
            ConfigurationError: it names a transport that this version does not know.
        """
        transport = checked_transport(self.transport or cdm.transport, cdm.hub_url)
        base_url = cdm.hub_url if self.base_url is None else self.base_url.rstrip("/")
        return replace(cdm, hub_url=base_url, transport=transport)


def enter_by_client(where: Connection, network: Any, base_url: str | None) -> Entry:
    """Return how to enter a hub whose network the user's client of the PubNub SDK names; nothing is asked.

    Raises:
        NotConfiguredError: the hub's address or the key is missing.
    """
    url = base_url or _hub_of(where)
    config = network.config
    keys = CdmKeyset(config.publish_key or "", config.subscribe_key)
    cdm = CdmConfig(
        playground=keys,
        network=keys,
        api=CdmApiConfig(url),
        transport="pubnub",
        origin=f"{'https' if config.ssl else 'http'}://{config.origin}",
        hub_url=url.rstrip("/"),
        pubnub=CdmPubNub(),
    )
    key = _api_key(where, is_local=is_loopback_url(url))
    document = f"{cdm.hub_url}{CDM_PATH}"
    return Entry(cdm, key, lambda: document, key_from_environment=where.api_key is not None, is_told=True)


def _hub_of(where: Connection) -> str:
    """Return the hub's address: where its document would be, else of the hub that runs on this machine."""
    if where.cdm_url is not None and where.cdm_url.startswith(("http://", "https://")):
        parts = urlsplit(where.cdm_url)
        return f"{parts.scheme}://{parts.netloc}"
    found = StateFolder(where.state_dir).discovered()
    if found is None:
        raise NotConfiguredError("pubnub= tells where the network is, not the hub; give base_url= too")
    return found.url


def enter(where: Connection, *, local_allowed: bool, clock: Clock, entropy: Entropy) -> Entry:
    """Return how to enter the hub; the local one is joined, or started here, where that is allowed.

    Raises:
        NotConfiguredError: the address or the key is missing; nothing was sent.
        ConfigurationError: nothing answers at the address, and the local hub runs at another one.
        HubUnavailableError: no hub within 30 seconds.
    """
    url = where.cdm_url
    if url is None and not local_allowed:
        raise NotConfiguredError("the local hub is not allowed here; set BLOCKS_CDM_URL to the document of a hub")
    if url is not None and (not local_allowed or not is_loopback_url(url) or _is_foreign(url, where)):
        api_key = _api_key(where, is_local=is_loopback_url(url))
        told = None if where.api_key is None and is_loopback_url(url) else url
        return Entry(
            _fetch(url, clock, entropy),
            api_key,
            partial(document_now, told, where.state_dir),
            key_from_environment=where.api_key is not None,
        )
    keeper = LocalHubKeeper(where.state_dir, told=url, clock=clock, entropy=entropy)
    try:
        found = keeper.find(FIND_TIMEOUT)
        cdm = _fetch(f"{found.url}{CDM_PATH}", clock, entropy)
        return Entry(
            cdm,
            _api_key(where, is_local=True),
            partial(document_now, None, where.state_dir),
            keeper,
            key_from_environment=where.api_key is not None,
        )
    except BaseException:
        keeper.stop(Deadline(HUB_STOP_TIMEOUT))
        raise


def _is_foreign(url: str, where: Connection) -> bool:
    """Tell whether a hub answers there that is not the local one of this user's state folder."""
    own = StateFolder(where.state_dir).discovered()
    if own is not None and port_of(url) == port_of(own.url):
        return False
    try:
        fetch_cdm_config(url, timeout=_PROBE_TIMEOUT)
    except (BlocksError, ValueError):
        return False
    return True


def _api_key(where: Connection, *, is_local: bool) -> str:
    key = where.api_key or (StateFolder(where.state_dir).read_local_key() if is_local else None)
    if key is None:
        raise NotConfiguredError(
            "BLOCKS_API_KEY is not set, and this hub is not the local one; set it to the key that its owner gave you"
        )
    return key


def _fetch(url: str, clock: Clock, entropy: Entropy) -> CdmConfig:
    """Return the document, trying again for 30 seconds while nothing answers; that is said at the first time."""
    deadline = Deadline(FIND_TIMEOUT, clock)
    backoff = Backoff(entropy, cap=5.0)
    told = False
    while True:
        try:
            return fetch_cdm_config(url)
        except HubUnavailableError as error:
            if deadline.expired():
                raise
            if not told:
                told = True
                _logger.warning("hub_away", extra={"url": redact(error.url), "reason": error.why})
            clock.pause(deadline.within(backoff.next()))
