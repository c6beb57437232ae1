"""Where a client's hub and network are, and with which key it enters: all decided before the first request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.config import DEFAULT_CDM_URL, DEFAULT_PORT, ClientConfig, is_loopback_url
from blocks_worker.controlplane.cdm import HOSTED_ORIGIN, CdmKeyset, CdmPubNub, checked_transport, fetch_cdm_config
from blocks_worker.controlplane.whereabouts import CDM_PATH, LOOK_TIMEOUT, document_now
from blocks_worker.errors import ConfigurationError, HubUnavailableError
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blocks_worker.protocol.tasks import BillingMode

_MODES: dict[str, BillingMode] = {"free": "free", "playground": "free", "paid": "paid", "network": "paid"}
#: Headers which the client writes itself.
_OWN_HEADERS = frozenset({"authorization", "content-type", "blocks-protocol-version", "x-write-affinity"})


@dataclass(frozen=True)
class Place:
    """Where everything is; `hub_url` is the hub's base address, `api_key` empty where none is used."""

    hub_url: str
    origin: str
    keys: CdmKeyset
    network: CdmPubNub
    api_key: str
    transport: str = "pubnub"


@dataclass
class KeysTold:
    """Remember the keys which the user told later, over those that are found."""

    keys: CdmKeyset | None = None

    def over(self, place: Place) -> Place:
        """Return the place with these keys."""
        return place if self.keys is None else replace(place, keys=self.keys)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the caller of ``TaskClient.create`` gave; None leaves it to the environment and the CDM document.

    `find_url` tells where the document is now, whenever it is asked for; it wins over `cdm_url`. With `has_tokens`
    no key is looked for; without `needs_key` a hub elsewhere may be read without one.
    """

    cdm_url: str | None = None
    subscribe_key: str | None = None
    publish_key: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    find_url: Callable[[], str] | None = None
    has_tokens: bool = False
    needs_key: bool = True
    transport: str | None = None


def billing_mode_of(billing_mode: str | None, env: str | None) -> BillingMode:
    """Return the one billing mode that two names for it tell.

    Raises:
        ConfigurationError: none was given, one is unknown, or they contradict each other.
    """
    named = [name for name in (billing_mode, env) if name is not None]
    if not named:
        raise ConfigurationError("the billing mode is missing: TaskClient.create('free') or create('paid')")
    unknown = [name for name in named if name not in _MODES]
    if unknown:
        raise ConfigurationError(f"billing mode {unknown[0]!r} is none of {', '.join(_MODES)}")
    if len({_MODES[name] for name in named}) > 1:
        raise ConfigurationError(f"billing_mode={billing_mode!r} and env={env!r} contradict each other")
    return _MODES[named[0]]


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the caller's extra headers when none is one of the client's own."""
    given = dict(headers or {})
    own = sorted(name for name in given if name.lower() in _OWN_HEADERS)
    if own:
        raise ConfigurationError(f"rpc_headers may not hold {', '.join(own)}: the client writes it")
    return given


def find_place(wishes: Wishes, config: ClientConfig, mode: BillingMode, *, timeout: float) -> Place:
    """Return where to go.

    Raises:
        ConfigurationError: an API key or an address is missing; told before any network use.
        HubUnavailableError: no local hub runs, or nothing answers.
    """
    base_url, subscribe_key, publish_key = _told(wishes, config)
    if base_url and subscribe_key and publish_key:
        key = _key(wishes, config, base_url)
        keys = CdmKeyset(publish_key, subscribe_key)
        transport = wishes.transport or config.connection.transport or "pubnub"
        return Place(base_url, HOSTED_ORIGIN, keys, CdmPubNub(), key, transport)
    return _documented(wishes, config, mode, _cdm(wishes, config), timeout)


def finder(wishes: Wishes, config: ClientConfig, mode: BillingMode, api_key: str) -> Callable[[], Place] | None:
    """Return what finds the same hub again by its document; None where the caller told all that stands in it."""
    if all(_told(wishes, config)):
        return None
    told = wishes.cdm_url or config.connection.cdm_url
    has_own_key = not (wishes.api_key or config.connection.api_key or wishes.has_tokens)
    if has_own_key and told is not None and is_loopback_url(told):
        told = None  # it is the hub of the state folder, for it has its key
    find_url = wishes.find_url or partial(document_now, told, config.connection.state_dir)
    return lambda: _documented(wishes, config, mode, (find_url(), api_key), LOOK_TIMEOUT)


def _told(wishes: Wishes, config: ClientConfig) -> tuple[str | None, str | None, str | None]:
    """Return the hub's address, subscribe key and publish key, as far as the document is not to tell them."""
    return (
        wishes.base_url or config.base_url,
        wishes.subscribe_key or config.subscribe_key,
        wishes.publish_key or config.publish_key,
    )


def _documented(
    wishes: Wishes, config: ClientConfig, mode: BillingMode, entry: tuple[str, str], timeout: float
) -> Place:
    """Return the place that a document names, with what was told in its stead."""
    (cdm_url, api_key), (base_url, subscribe_key, publish_key) = entry, _told(wishes, config)
    cdm = fetch_cdm_config(cdm_url, timeout=min(timeout, 10.0))
    found = cdm.keyset(mode)
    keys = CdmKeyset(publish_key or found.publish_key, subscribe_key or found.subscribe_key)
    transport = wishes.transport or config.connection.transport or cdm.transport
    return Place(base_url or cdm.hub_url, cdm.origin, keys, cdm.pubnub, api_key, checked_transport(transport, cdm_url))


def _cdm(wishes: Wishes, config: ClientConfig) -> tuple[str, str]:
    """Return address of the CDM document and API key: as told, or of the hub that runs on this machine."""
    if wishes.find_url is not None:
        url = wishes.find_url()
        return url, _key(wishes, config, url)
    told = wishes.cdm_url or config.connection.cdm_url
    if told is not None:
        return told, _key(wishes, config, told)
    hub = StateFolder(config.connection.state_dir).discovered()
    if hub is not None:
        url = f"{hub.url}/api/v1/cdm"
        return url, _key(wishes, config, url)
    if not (wishes.has_tokens or wishes.api_key or config.connection.api_key):
        raise HubUnavailableError(_usual(config), "no local hub runs")
    return DEFAULT_CDM_URL, _key(wishes, config, DEFAULT_CDM_URL)


def _usual(config: ClientConfig) -> str:
    """Return where the document of a local hub would be that is started now."""
    port = StateFolder(config.connection.state_dir).kept_port("hub") or DEFAULT_PORT
    return f"http://127.0.0.1:{port}{CDM_PATH}"


def _key(wishes: Wishes, config: ClientConfig, url: str) -> str:
    if wishes.has_tokens:
        return ""
    key = wishes.api_key or config.connection.api_key
    if key is not None:
        return key
    if is_loopback_url(url):
        local = StateFolder(config.connection.state_dir).read_local_key()
        if local is not None:
            return local
        raise ConfigurationError(
            f"there is no key for the hub at {url}: no hub was started with the state folder "
            f"{config.connection.state_dir}; start one with 'blocks-run' or 'blocks-hub', or set BLOCKS_API_KEY"
        )
    if not wishes.needs_key:
        return ""
    raise ConfigurationError(f"the hub at {url} asks for an API key: set BLOCKS_API_KEY or pass api_key=")
