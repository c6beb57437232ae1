"""The hub's registry as plain functions: look agents up, take one out, connect one by hand."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blocks_worker import config
from blocks_worker.client.settings import Wishes, find_place
from blocks_worker.concurrency import Entropy
from blocks_worker.config import bypass_proxy_on_loopback, is_loopback_url
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.refusals import fatal_told
from blocks_worker.errors import AuthRefreshFailedError, ConfigurationError, RpcError
from blocks_worker.protocol.leases import ConnectRequest
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.protocol.registry import AgentRow

_UNAUTHORIZED = 401
_NOT_FOUND = 404
#: Rows of one page, at most: the hub's own bound.
_LARGEST_PAGE = 500


@dataclass(frozen=True)
class AgentScaling:
    """How much an agent takes on: instances that are expected (0: broadcast), slots of each, tasks that may wait."""

    expected_instances: int = 1
    concurrency: int = 1
    max_pending_backlog: int = 10_000


@dataclass(frozen=True)
class AgentEntry:
    """An agent as the registry shows it.

    Attributes:
        name: for people; the agent's name where its card has no other.
        listing: ``public`` or ``private``.
        billing_mode: ``free`` or ``paid``.
        created_at: unix milliseconds.
    """

    agent_name: str
    name: str = ""
    description: str = ""
    tags: list[Any] = field(default_factory=list)
    scaling: AgentScaling = field(default_factory=AgentScaling)
    card: dict[str, Any] | None = None
    card_ref: str | None = None
    card_summary: str | None = None
    listing: str = "private"
    billing_mode: str = "free"
    created_at: int = 0

    @classmethod
    def of(cls, row: AgentRow) -> AgentEntry:
        """Return the entry of a row."""
        return cls(
            agent_name=row.agent_name,
            name=row.name,
            description=row.description,
            tags=row.tags,
            scaling=AgentScaling(
                row.scaling.get("expectedInstances", 1),
                row.scaling.get("concurrency", 1),
                row.scaling.get("maxPendingBacklog", 10_000),
            ),
            card=row.card,
            card_ref=row.card_ref,
            card_summary=row.card_summary,
            listing=row.listing,
            billing_mode=row.billing_mode,
            created_at=row.registered_at,
        )


@dataclass(frozen=True, kw_only=True)
class ConnectAgentOptions:
    """Say what connects; what is None, the hub decides.

    Attributes:
        instance_id: a stable name; another process life under it supersedes the one before.
    """

    agent_name: str
    instance_id: str
    billing_mode: str | None = None
    listing: str | None = None
    description: str | None = None
    scaling: AgentScaling = field(default_factory=AgentScaling)
    max_running_time_sec: int = 3600
    card: dict[str, Any] | None = None


@dataclass(frozen=True)
class AgentConnection:
    """What a connected instance works with: tokens, its id and the channel on which the hub speaks to it."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: float
    pam_token: str = field(repr=False)
    agent_id: str
    control_channel: str


def get_agent(
    name: str, *, base_url: str | None = None, api_key: str | None = None, timeout: float = 30.0
) -> AgentEntry | None:
    """Return one agent; None where there is none, or one that the caller may not see.

    Raises:
        AgentAuthFatalError, AuthRefreshFailedError: the credential is not taken, or there is none where one is needed.
        HubUnavailableError: no hub answers.
    """
    with _registry(base_url, api_key, timeout) as (hub, _):
        try:
            return AgentEntry.of(hub.agent(name))
        except RpcError as error:
            if error.status == _NOT_FOUND:
                return None
            raise


def fetch_agent_registry(
    limit: int = 100,
    cursor: str | None = None,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float = 30.0,
) -> list[AgentEntry]:
    """Return the agents that the caller may see, in the order of their names.

    Args:
        limit: rows of one page.
        cursor: the name behind which a page begins: that page alone is returned; None: all of them are.
        base_url: the hub; None: as the environment says.
        api_key: None: as the environment says; without any, what is public is seen.
        timeout: seconds of one call.
    """
    with _registry(base_url, api_key, timeout) as (hub, _):
        if cursor is not None:
            return [AgentEntry.of(row) for row in hub.agents(cursor=cursor, limit=_page(limit)).agents]
        return list(_all(hub, limit=_page(limit)))


def fetch_agents_by_tag(
    tag: str, *, base_url: str | None = None, api_key: str | None = None, timeout: float = 30.0
) -> list[AgentEntry]:
    """Return the agents that have a tag, by its id or name."""
    with _registry(base_url, api_key, timeout) as (hub, _):
        return list(_all(hub, tag=tag))


#: Another name of the same: a skill is a tag.
fetch_agents_by_skill = fetch_agents_by_tag


def fetch_agents_by_listing(
    listing: str, *, base_url: str | None = None, api_key: str | None = None, timeout: float = 30.0
) -> list[AgentEntry]:
    """Return the agents that are listed so: ``public`` or ``private``."""
    if listing not in {"public", "private"}:
        raise ConfigurationError(f"listing {listing!r} is neither 'public' nor 'private'")
    with _registry(base_url, api_key, timeout) as (hub, _):
        return list(_all(hub, listing=listing))


def remove_agent(name: str, *, base_url: str | None = None, api_key: str | None = None, timeout: float = 30.0) -> bool:
    """Take the caller's own agent out of the registry; tell whether it was there.

    Raises:
        RpcError: its tasks have not ended (`AgentHasTasks`).
    """
    with _registry(base_url, api_key, timeout) as (hub, _):
        try:
            hub.remove_agent(name)
        except RpcError as error:
            if error.status == _NOT_FOUND:
                return False
            raise
        return True


def connect_agent(
    options: ConnectAgentOptions, *, base_url: str | None = None, api_key: str | None = None, timeout: float = 30.0
) -> AgentConnection:
    """Register one process life of an instance, by one call; `start_agent_instance` does this and all that follows.

    Raises:
        AgentAuthFatalError: the key is refused, or the agent was taken offline.
        RpcError: the hub refused for another reason, such as `AgentNameReserved`.
    """
    with _registry(base_url, api_key, timeout) as (hub, key):
        if key is None:
            raise AuthRefreshFailedError("to connect an agent takes an API key: set BLOCKS_API_KEY or pass api_key=")
        request = ConnectRequest(
            agent_name=options.agent_name,
            instance_id=options.instance_id,
            incarnation=Entropy().name(),
            billing_mode=options.billing_mode,  # type: ignore[arg-type]  # the hub checks it, as the next
            listing=options.listing,  # type: ignore[arg-type]
            description=options.description,
            concurrency=options.scaling.concurrency,
            expected_instances=options.scaling.expected_instances,
            max_pending_backlog=options.scaling.max_pending_backlog,
            max_running_time_sec=options.max_running_time_sec,
            card=options.card,
        )
        with fatal_told(""):
            answer = hub.connect(key, request)
    return AgentConnection(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        expires_in=answer.expires_in,
        pam_token=answer.pam_token,
        agent_id=answer.agent_id,
        control_channel=answer.control_channel,
    )


class _Token:
    """One access token, used until it is refused."""

    def __init__(self, token: str) -> None:
        self._token = token

    def access_token(self) -> str:
        """Return the token."""
        return self._token

    def on_unauthorized(self, refused: str) -> bool:  # noqa: ARG002 - as others are asked
        """There is no other."""
        return False


@contextmanager
def _registry(base_url: str | None, api_key: str | None, timeout: float) -> Iterator[tuple[HubApi, str | None]]:
    """Give the hub's calls, under the key where there is one, and the key."""
    url, key = _place(base_url, api_key, timeout)
    bypass_proxy_on_loopback()
    http = Http(url, timeout=timeout)
    try:
        door = HubApi(http)
        if key is None:
            yield door, None
            return
        with fatal_told(""):
            token = door.consumer_token(key).access_token
        yield door.bearing(_Token(token)), key
    except RpcError as error:
        if error.status == _UNAUTHORIZED:
            raise AuthRefreshFailedError(f"the hub does not take this credential: {error.rpc_message}") from error
        raise
    finally:
        http.close()


def _place(base_url: str | None, api_key: str | None, timeout: float) -> tuple[str, str | None]:
    """Return the hub's address and the key: as given, else as the environment says, else of this machine's own hub."""
    settings = config.client_config()
    url = base_url or settings.base_url
    if url is None:
        found = find_place(Wishes(api_key=api_key, needs_key=False), settings, "free", timeout=timeout)
        return found.hub_url, found.api_key or None
    key = api_key or settings.connection.api_key
    if key is None and is_loopback_url(url):
        key = StateFolder(settings.connection.state_dir).read_local_key()
    return url.rstrip("/"), key


def _all(
    hub: HubApi, *, limit: int = _LARGEST_PAGE, tag: str | None = None, listing: str | None = None
) -> Iterator[AgentEntry]:
    cursor: str | None = None
    while True:
        page = hub.agents(cursor=cursor, limit=limit, tag=tag, listing=listing)
        yield from map(AgentEntry.of, page.agents)
        cursor = page.next
        if cursor is None:
            return


def _page(limit: int) -> int:
    if isinstance(limit, bool) or limit < 1:
        raise ConfigurationError(f"limit={limit!r} is not a whole number above 0")
    return min(limit, _LARGEST_PAGE)
