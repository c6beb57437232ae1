"""How a client gets its machinery: settings looked at, hub found, way in chosen, first token there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from blocks_worker import config
from blocks_worker.client.core import ClientCore
from blocks_worker.client.settings import Place, Wishes, billing_mode_of, check_headers, find_place, finder
from blocks_worker.controlplane.cdm import HOSTED_ORIGIN, CdmKeyset, CdmPubNub
from blocks_worker.controlplane.consumer_auth import source_of
from blocks_worker.controlplane.entrances import KeyEntrance, NoEntrance, ProviderEntrance, SourceEntrance
from blocks_worker.controlplane.refusals import key_cure
from blocks_worker.errors import ConfigurationError
from blocks_worker.streams.options import writer_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.controlplane.entrances import Entrance
    from blocks_worker.controlplane.providers import AuthProvider
    from blocks_worker.controlplane.sources import TokenProvider, TokenSource
    from blocks_worker.protocol.tasks import BillingMode

_TIMEOUT = 30.0


def connected(
    wishes: Wishes,
    mode: BillingMode,
    *,
    timeout: float = _TIMEOUT,
    headers: Mapping[str, str] | None = None,
    source: TokenSource | None = None,
    on_auth_error: Callable[[Exception], None] | None = None,
    settings: config.ClientConfig | None = None,
) -> ClientCore:
    """Return the machinery of a client, logged in as far as there are credentials.

    `settings`: what else the environment would say.
    """
    settings = settings or config.client_config()
    place = find_place(wishes, settings, mode, timeout=timeout)
    entrance: Callable[[HubApi], Entrance] = _by_key(wishes, settings, place)
    if source is not None:
        entrance = partial(_by_source, source)
    core = ClientCore(
        place,
        entrance=entrance,
        find=finder(wishes, settings, mode, place.api_key),
        billing_mode=mode,
        timeout=timeout,
        inline_limit=settings.inline_limit,
        stream_options=writer_options(settings.streams),
        headers=headers or {},
        on_auth_error=on_auth_error,
    )
    if core.has_credentials:
        core.connect()
    return core


def chosen_source(
    token_endpoint: str | Mapping[str, Any] | None, token_provider: TokenProvider | None, timeout: float
) -> TokenSource | None:
    """Return where tokens come from; None where a key is used."""
    if not timeout > 0:
        raise ConfigurationError(f"timeout is a number of seconds above 0, not {timeout!r}")
    return source_of(token_endpoint, token_provider, timeout=timeout)


def check_offered(*, anon_fingerprint: object, transport: str | None = None) -> None:
    """Refuse what is known by name only, and a transport that is not known.

    Raises:
        ConfigurationError: it was asked for.
    """
    if anon_fingerprint is not None:
        raise ConfigurationError("anon_fingerprint must be None: anonymous viewing is not offered")
    if transport not in {None, *config.TRANSPORTS}:
        known = " and ".join(map(repr, config.TRANSPORTS))
        raise ConfigurationError(f"transport {transport!r} is not offered; this version knows {known}")


def direct(
    *,
    subscribe_key: str | None,
    publish_key: str | None,
    base_url: str | None,
    billing_mode: str | None,
    network_client: Any,
    provider: AuthProvider | None,
    default_owner_id: str | None,
    rpc_headers: Mapping[str, str] | None,
) -> ClientCore:
    """Return the machinery of a client whose parts were given; it gets in with its first call.

    `network_client` is a client of the PubNub SDK: its keys, origin and user id are taken, not the object.
    """
    settings = config.client_config()
    mode, headers = billing_mode_of(billing_mode, None), check_headers(rpc_headers)
    wishes = Wishes(base_url=base_url, subscribe_key=subscribe_key, publish_key=publish_key, needs_key=False)
    place = _told_place(
        wishes, settings, mode, getattr(network_client, "config", None), has_tokens=provider is not None
    )
    by_provider = None if provider is None else partial(_by_provider, provider)
    user_id = getattr(getattr(network_client, "config", None), "user_id", None)
    core = ClientCore(
        place,
        entrance=by_provider or _by_key(wishes, settings, place),
        billing_mode=mode,
        timeout=_TIMEOUT,
        inline_limit=settings.inline_limit,
        stream_options=writer_options(settings.streams),
        headers=headers,
    )
    core.default_owner = default_owner_id or user_id
    return core


def network_client_of(given: Any, *factories: Callable[[], Any] | None) -> Any:
    """Return the SDK's client that was given, or what the first factory makes; None without any."""
    if given is not None:
        return given
    return next((make() for make in factories if make is not None), None)


def one_provider(agent_auth: AuthProvider | None, auth_provider: AuthProvider | None) -> AuthProvider | None:
    """Return the one of the two that was given.

    Raises:
        ConfigurationError: both were.
    """
    if agent_auth is not None and auth_provider is not None:
        raise ConfigurationError("agent_auth and auth_provider are given: choose one of them")
    return agent_auth if auth_provider is None else auth_provider


def _told_place(
    wishes: Wishes, settings: config.ClientConfig, mode: BillingMode, network: Any, *, has_tokens: bool
) -> Place:
    """Return the place that the arguments tell; a hub on this machine is asked where its network is."""
    base_url = wishes.base_url or settings.base_url
    subscribe_key = getattr(network, "subscribe_key", None) or wishes.subscribe_key or settings.subscribe_key
    publish_key = getattr(network, "publish_key", None) or wishes.publish_key or settings.publish_key or ""
    if not base_url:
        raise ConfigurationError("give base_url, the hub's address, or set BLOCKS_BACKEND_URL")
    if not subscribe_key:
        raise ConfigurationError("give subscribe_key, or set BLOCKS_SUBSCRIBE_KEY")
    keys = CdmKeyset(publish_key, subscribe_key)
    is_local = config.is_loopback_url(base_url)
    asked = Wishes(cdm_url=f"{base_url.rstrip('/')}/api/v1/cdm", has_tokens=has_tokens, needs_key=False)
    if network is None and is_local:
        found = find_place(asked, settings, mode, timeout=_TIMEOUT)
        return Place(base_url, found.origin, keys, found.network, found.api_key)
    key = settings.connection.api_key or (_local_key(settings) if is_local else None)
    return Place(base_url, _origin(network), keys, CdmPubNub(), "" if has_tokens else key or "")


def _local_key(settings: config.ClientConfig) -> str | None:
    from blocks_worker.state import StateFolder

    return StateFolder(settings.connection.state_dir).read_local_key()


def _origin(network: Any) -> str:
    if network is None:
        return HOSTED_ORIGIN
    return f"{'https' if network.ssl else 'http'}://{network.origin}"


def _by_key(wishes: Wishes, settings: config.ClientConfig, place: Place) -> Callable[[HubApi], Entrance]:
    if not place.api_key:
        return lambda _door: NoEntrance()
    cure = key_cure(
        given=wishes.api_key is not None,
        environment=settings.connection.api_key is not None,
        is_local=config.is_loopback_url(place.hub_url),
    )
    return lambda door: KeyEntrance(door, place.api_key, cure=cure)


def _by_source(source: TokenSource, door: HubApi) -> Entrance:
    return SourceEntrance(door, source)


def _by_provider(provider: AuthProvider, door: HubApi) -> Entrance:
    return ProviderEntrance(door, provider)


def check_key(given: Mapping[str, Any]) -> None:
    """Refuse to go without credentials to a hub that is elsewhere."""
    settings = config.client_config()
    places = [given.get("base_url") or settings.base_url, given.get("cdm_url") or settings.connection.cdm_url]
    is_local = all(config.is_loopback_url(place) for place in places if place is not None)
    if settings.connection.api_key is None and not is_local:
        raise KeyError("BLOCKS_API_KEY is not set, and the hub is not on this machine")
