"""The document that says where hub and network are, and with which keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from blocks_worker.config import DEFAULT_CDM_URL, TRANSPORTS, connection, is_loopback_host
from blocks_worker.controlplane.http import Http
from blocks_worker.errors import ConfigurationError, HubUnavailableError, InvalidMessageError
from blocks_worker.protocol.codec import Wire, decode
from blocks_worker.state import StateFolder

#: Where the `pubnub` transport goes when the document names no origin.
HOSTED_ORIGIN = "ps.pndsn.com"


@dataclass(frozen=True)
class CdmKeyset:
    """The keys of one keyset of the network."""

    publish_key: str
    subscribe_key: str


@dataclass(frozen=True)
class CdmApiConfig:
    """Where the hub's HTTP interface is."""

    base_url: str
    client_id: str | None = None


@dataclass(frozen=True)
class CdmPubNub:
    """What this network keeps: `hold` and `retention_age` in seconds, `retention_limit` in messages."""

    hold: float = 280.0
    retention_limit: int = 100
    retention_age: float = 1200.0


@dataclass(frozen=True)
class CdmConfig:
    """Where everything is.

    Attributes:
        origin: address of the network; a bare host means TLS.
        hub_url: base address of the hub.
    """

    playground: CdmKeyset
    network: CdmKeyset
    api: CdmApiConfig | None
    transport: str
    origin: str
    hub_url: str
    pubnub: CdmPubNub

    def keyset(self, billing_mode: str) -> CdmKeyset:
        """Return the keys of a billing mode, ``free`` or ``paid``."""
        return self.network if billing_mode == "paid" else self.playground


class _Keyset(Wire):
    publish_key: str | None = None
    subscribe_key: str | None = None


class _Api(Wire):
    base_url: str | None = None
    client_id: str | None = None


class _PubNub(Wire):
    hold: float = 280.0
    retention_limit: int = 100
    retention_age: float = 1200.0


class _Document(Wire):
    playground: _Keyset | None = None
    network: _Keyset | None = None
    api: _Api | None = None
    transport: str = "pubnub"
    origin: str | None = None
    hub_url: str | None = None
    pubnub: _PubNub = msgspec.field(default_factory=_PubNub)


def fetch_cdm_config(url: str | None = None, timeout: float = 10.0) -> CdmConfig:
    """Return the document at `url`, an http(s) address or the path of a file.

    Without one it is looked for where the surroundings say, else at the hub that runs on this machine.

    Raises:
        ConfigurationError: a ValueError that names what is missing or wrong in it.
        HubUnavailableError: nothing answers there.
    """
    place = url or _usual_place()
    content = _fetch(place, timeout) if place.startswith(("http://", "https://")) else _read(place)
    return parse_cdm(content, place)


def _usual_place() -> str:
    known = connection()
    if known.cdm_url is not None:
        return known.cdm_url
    hub = StateFolder(known.state_dir).discovered()
    return DEFAULT_CDM_URL if hub is None else f"{hub.url}/api/v1/cdm"


def parse_cdm(content: bytes, place: str) -> CdmConfig:
    """Return the document that the bytes from `place` hold."""
    try:
        document = decode(_Document, content)
    except InvalidMessageError as error:
        raise ConfigurationError(f"the CDM document at {place} is not usable: {error}") from error
    base_url = document.api.base_url if document.api else None
    client_id = document.api.client_id if document.api else None
    return CdmConfig(
        playground=_keyset(document.playground, "playground", place),
        network=_keyset(document.network, "network", place),
        api=CdmApiConfig(base_url, client_id) if base_url else None,
        transport=document.transport,
        origin=_origin(document.origin or HOSTED_ORIGIN, place),
        hub_url=_needed(document.hub_url or base_url, "api.baseUrl", place),
        pubnub=CdmPubNub(document.pubnub.hold, document.pubnub.retention_limit, document.pubnub.retention_age),
    )


def checked_transport(transport: str, place: str) -> str:
    """Return what the hub of a document is spoken to by, when this version knows it.

    Raises:
        ConfigurationError: it does not.
    """
    if transport not in TRANSPORTS:
        known = " and ".join(map(repr, TRANSPORTS))
        raise ConfigurationError(f"the hub at {place} speaks by {transport!r}; this version knows {known}")
    return transport


def _fetch(url: str, timeout: float) -> bytes:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"{url[:200]!r} is no address; check BLOCKS_CDM_URL") from error
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    http = Http(f"{parts.scheme}://{parts.netloc}", timeout=timeout)
    try:
        answer = http.call("GET", path)
    finally:
        http.close()
    if answer.status >= 500:  # noqa: PLR2004 - the first status by which a server says that it is its own fault
        raise HubUnavailableError(url, f"it answered with status {answer.status}")
    if answer.status != 200:  # noqa: PLR2004 - OK
        raise ConfigurationError(f"there is no CDM document at {url}: status {answer.status}; check BLOCKS_CDM_URL")
    return answer.body


def _read(place: str) -> bytes:
    try:
        return Path(place).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the CDM document {place!r} cannot be read: {error}") from error


def _needed(value: str | None, name: str, place: str) -> str:
    if not value:
        raise ConfigurationError(f"the CDM document at {place} lacks {name}")
    return value


def _keyset(keys: _Keyset | None, name: str, place: str) -> CdmKeyset:
    if keys is None:
        raise ConfigurationError(f"the CDM document at {place} lacks the keyset {name!r}")
    return CdmKeyset(
        publish_key=_needed(keys.publish_key, f"{name}.publishKey", place),
        subscribe_key=_needed(keys.subscribe_key, f"{name}.subscribeKey", place),
    )


def _origin(origin: str, place: str) -> str:
    try:
        parts: Any = urlsplit(origin if "://" in origin else f"https://{origin}")
    except ValueError as error:
        raise ConfigurationError(f"the CDM document at {place} names {origin[:80]!r}, which is no origin") from error
    if parts.scheme == "http" and not is_loopback_host(parts.hostname or ""):
        raise ConfigurationError(f"the CDM document at {place} names the cleartext origin {origin}: only with TLS")
    return origin
