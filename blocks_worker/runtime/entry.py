"""Find and enter the hub: the one that is configured, or the local one of this user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from blocks_worker.concurrency import Backoff, Deadline
from blocks_worker.config import is_loopback_url
from blocks_worker.controlplane.cdm import CdmConfig, fetch_cdm_config
from blocks_worker.errors import BlocksError, HubUnavailableError, NotConfiguredError
from blocks_worker.runtime.local import LocalHubKeeper
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.config import Connection

#: Seconds that a start looks for a hub before it gives up.
FIND_TIMEOUT = 30.0
#: Seconds for the local hub to end again when the start failed.
HUB_STOP_TIMEOUT = 5.0
#: Seconds for the look whether a hub answers at an address of this machine.
_PROBE_TIMEOUT = 2.0
CDM_PATH = "/api/v1/cdm"


@dataclass(frozen=True)
class Entry:
    """How to enter a hub: its document, the key, and the keeper when the hub is the user's local one."""

    cdm: CdmConfig
    api_key: str
    keeper: LocalHubKeeper | None = None


def enter(where: Connection, *, local_allowed: bool, clock: Clock, entropy: Entropy) -> Entry:
    """Return how to enter the hub; the local one is joined, or started here, where that is allowed.

    Raises:
        NotConfiguredError: the address or the key is missing; nothing was sent.
        HubUnavailableError: no hub within 30 seconds.
    """
    url = where.cdm_url
    if url is None and not local_allowed:
        raise NotConfiguredError("the local hub is not allowed here; set BLOCKS_CDM_URL to the document of a hub")
    if url is not None and (not local_allowed or not is_loopback_url(url) or _is_foreign(url, where)):
        api_key = _api_key(where, is_local=is_loopback_url(url))
        return Entry(_fetch(url, clock, entropy), api_key)
    keeper = LocalHubKeeper(where.state_dir, port=urlsplit(url or "").port, clock=clock, entropy=entropy)
    try:
        found = keeper.find(FIND_TIMEOUT)
        cdm = _fetch(f"{found.url}{CDM_PATH}", clock, entropy)
        return Entry(cdm, _api_key(where, is_local=True), keeper)
    except BaseException:
        keeper.stop(Deadline(HUB_STOP_TIMEOUT))
        raise


def _is_foreign(url: str, where: Connection) -> bool:
    """Tell whether a hub answers there that is not the local one of this user's state folder."""
    own = StateFolder(where.state_dir).discovered()
    if own is not None and urlsplit(url).port == urlsplit(own.url).port:
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
    """Return the document, trying again for 30 seconds while nothing answers."""
    deadline = Deadline(FIND_TIMEOUT, clock)
    backoff = Backoff(entropy, cap=5.0)
    while True:
        try:
            return fetch_cdm_config(url)
        except HubUnavailableError:
            if deadline.expired():
                raise
            clock.pause(deadline.within(backoff.next()))
