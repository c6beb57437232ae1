"""Where a client's hub and network are, and with which key it enters: all decided before the first request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.config import DEFAULT_CDM_URL, ClientConfig, is_loopback_url
from blocks_worker.controlplane.cdm import HOSTED_ORIGIN, CdmKeyset, CdmPubNub, fetch_cdm_config
from blocks_worker.errors import ConfigurationError, HubUnavailableError
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.protocol.tasks import BillingMode

_MODES: dict[str, BillingMode] = {"free": "free", "playground": "free", "paid": "paid", "network": "paid"}
#: Headers which the client writes itself.
_OWN_HEADERS = frozenset({"authorization", "content-type", "blocks-protocol-version", "x-write-affinity"})


@dataclass(frozen=True)
class Place:
    """Where everything is; `hub_url` is the hub's base address."""

    hub_url: str
    origin: str
    keys: CdmKeyset
    network: CdmPubNub
    api_key: str


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the caller of ``TaskClient.create`` gave; None leaves it to the environment and the CDM document."""

    cdm_url: str | None = None
    subscribe_key: str | None = None
    publish_key: str | None = None
    base_url: str | None = None
    api_key: str | None = None


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
    base_url = wishes.base_url or config.base_url
    subscribe_key = wishes.subscribe_key or config.subscribe_key
    publish_key = wishes.publish_key or config.publish_key
    if base_url and subscribe_key and publish_key:
        key = _key(wishes, config, base_url)
        return Place(base_url, HOSTED_ORIGIN, CdmKeyset(publish_key, subscribe_key), CdmPubNub(), key)
    cdm_url, api_key = _cdm(wishes, config)
    cdm = fetch_cdm_config(cdm_url, timeout=min(timeout, 10.0))
    found = cdm.keyset(mode)
    keys = CdmKeyset(publish_key or found.publish_key, subscribe_key or found.subscribe_key)
    if cdm.transport != "pubnub":
        raise ConfigurationError(f"the hub at {cdm_url} speaks by {cdm.transport!r}; this version knows 'pubnub'")
    return Place(base_url or cdm.hub_url, cdm.origin, keys, cdm.pubnub, api_key)


def _cdm(wishes: Wishes, config: ClientConfig) -> tuple[str, str]:
    """Return address of the CDM document and API key: as told, or of the hub that runs on this machine."""
    told = wishes.cdm_url or config.connection.cdm_url
    if told is not None:
        return told, _key(wishes, config, told)
    hub = StateFolder(config.connection.state_dir).discovered()
    if hub is not None:
        url = f"{hub.url}/api/v1/cdm"
        return url, _key(wishes, config, url)
    key = wishes.api_key or config.connection.api_key
    if key is None:
        raise HubUnavailableError(DEFAULT_CDM_URL, "no local hub runs")
    return DEFAULT_CDM_URL, key


def _key(wishes: Wishes, config: ClientConfig, url: str) -> str:
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
    raise ConfigurationError(f"the hub at {url} asks for an API key: set BLOCKS_API_KEY or pass api_key=")
