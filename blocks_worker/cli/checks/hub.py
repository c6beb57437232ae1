"""Whether the hub answers and is one, takes the key, has the same time, and whether its network can be reached."""

from __future__ import annotations

from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from blocks_worker.cli.findings import Found, of_error
from blocks_worker.concurrency import Clock
from blocks_worker.config import TRANSPORTS, bypass_proxy_on_loopback, is_loopback_url
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.cdm import fetch_cdm_config
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.refusals import KEY_INVALID, key_cure
from blocks_worker.controlplane.whereabouts import CDM_PATH, not_there
from blocks_worker.errors import BlocksError, ConfigurationError, HubUnavailableError, RpcError
from blocks_worker.observability.redact import redact
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.config import Connection, WorkerConfig
    from blocks_worker.controlplane.cdm import CdmConfig

#: Seconds for one answer.
_PATIENCE = 3.0
#: Seconds by which clocks may differ: what tokens allow for.
_LEEWAY = 60.0
_OK = 200
#: Positions of the network count so many a second.
_TICKS = 10_000_000
_SET_CLOCK = "set the clock of the one that is wrong ('timedatectl set-ntp true'): tokens and limits of time go by it"
#: How secrets begin that are no API keys of a hub.
_STRANGERS = {"pub-c-": "a publish key of PubNub", "sub-c-": "a subscribe key of PubNub", "eyJ": "a token"}
_STRANGERS |= {"sec-c-": "a secret key of PubNub", "rt_": "a refresh token"}


def hub(config: WorkerConfig) -> Iterator[Found]:
    """Ask what a worker would ask, as far as nothing is changed by it; stop where the next answer cannot come."""
    bypass_proxy_on_loopback()
    connection = config.connection
    url = connection.cdm_url
    if url is None:
        try:
            local = StateFolder(connection.state_dir).discovered()
        except ConfigurationError:
            # What is wrong is told of the state folder.
            yield Found("note", "hub", "not looked at: the state folder, which tells where it is, cannot be read")
            return
        url = None if local is None else f"{local.url}{CDM_PATH}"
    if url is None:
        yield no_hub("no local hub runs", starts_own=config.embedded_hub)
        return
    try:
        cdm = fetch_cdm_config(url, timeout=_PATIENCE)
    except HubUnavailableError as error:
        yield _unreachable(error, config)
        return
    except (BlocksError, ValueError) as error:
        found = of_error("hub", error)
        cure = found.cure or "check BLOCKS_CDM_URL and BLOCKS_HUB_URL: something else answers there"
        yield replace(found, text=redact(found.text), cure=cure)
        return
    http = Http(cdm.hub_url, timeout=_PATIENCE)
    try:
        yield from _asked(http, cdm, connection)
    except HubUnavailableError as error:
        cure = "start it, or mend the address in the document"
        yield Found("error", "hub", f"the document at {url} names {error.url}, and nothing answers ({error.why})", cure)
    finally:
        http.close()
    yield from _network(cdm, connection.transport or cdm.transport)


def no_hub(text: str, *, starts_own: bool) -> Found:
    """Return that there is none; one that a start would bring up itself need not be there."""
    if starts_own:
        return Found("note", "hub", text, "'blocks-run' starts one")
    return Found("error", "hub", text, "start it, or set BLOCKS_CDM_URL to the document of one that runs")


def _unreachable(error: HubUnavailableError, config: WorkerConfig) -> Found:
    text = f"no hub answers at {redact(error.url)} ({error.why})"
    connection = config.connection
    other = elsewhere(connection)
    if other is not None:
        return other
    if not error.is_named:
        host = urlsplit(error.url).hostname
        cure = f"check the name {host!r} in BLOCKS_CDM_URL or BLOCKS_HUB_URL, and the name service of this machine"
        return Found("error", "hub", text, cure)
    return no_hub(text, starts_own=config.embedded_hub and connection.is_local and not error.sent)


def elsewhere(connection: Connection) -> Found | None:
    """Return that the local hub runs at another address than the one that is set; None where it does not."""
    try:
        said = not_there(connection.cdm_url, StateFolder(connection.state_dir).discovered())
    except ConfigurationError:
        return None  # told of the state folder
    return of_error("hub", ConfigurationError(said)) if said else None


def _asked(http: Http, cdm: CdmConfig, connection: Connection) -> Iterator[Found]:
    begun = Clock().wall_ms()
    answer = http.call("GET", "/healthz")
    if answer.status != _OK:
        cure = "look at the log of the hub, and at what stands before it"
        yield Found("error", "hub", f"{cdm.hub_url} answers with status {answer.status}", cure)
        return
    yield Found("note", "hub", f"{cdm.hub_url} answers")
    yield from _clock("the hub", _moment(answer.headers.get("Date")), (begun + Clock().wall_ms()) / 2000)
    yield from _key(HubApi(http), cdm.hub_url, connection)


def _moment(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def _clock(whose: str, theirs: float | None, ours: float) -> Iterator[Found]:
    """Compare two clocks, in unix seconds."""
    if theirs is None:
        yield Found("note", "clock", f"{whose} does not tell its time")
        return
    ahead = ours - theirs
    if abs(ahead) <= _LEEWAY:
        yield Found("note", "clock", f"agrees with that of {whose}")
        return
    side = "ahead of" if ahead > 0 else "behind"
    yield Found("error", "clock", f"this machine is {abs(ahead):.0f} s {side} {whose}", _SET_CLOCK)


def _key(api: HubApi, hub_url: str, connection: Connection) -> Iterator[Found]:
    """Show the key to the hub by listing what it may see: that is no use of it, and leaves nothing behind."""
    is_local = is_loopback_url(hub_url)
    key = connection.api_key
    if key is None and is_local:
        key = StateFolder(connection.state_dir).read_local_key()
    if key is None:
        cure = "set BLOCKS_API_KEY to one that the hub's owner gave you ('blocks keys create NAME' makes it)"
        yield Found("error", "key", "there is none for this hub", cure)
        return
    try:
        api.keys(key)
    except RpcError as error:
        if error.code != KEY_INVALID:
            cure = "look at the log of the hub, and at what stands before it"
            yield Found("error", "key", f"the hub does not say whether it takes it: {error.rpc_message}", cure)
            return
        cure = key_cure(given=False, environment=connection.api_key is not None, is_local=is_local)
        stranger = next((name for start, name in _STRANGERS.items() if key.startswith(start)), None)
        said = error.rpc_message if stranger is None else f"{error.rpc_message}: it looks like {stranger}"
        yield Found("error", "key", said, cure)
        return
    yield Found("note", "key", "the hub takes it")


def _network(cdm: CdmConfig, transport: str) -> Iterator[Found]:
    if transport == "hublink":
        yield Found("note", "network", "there is none to reach: all goes over one link to the hub (hublink)")
        return
    if transport not in TRANSPORTS:
        known = " and ".join(map(repr, TRANSPORTS))
        cure = "install the release of blocks_worker that the hub has"
        yield Found("error", "network", f"the hub speaks by {transport!r}, this release knows {known}", cure)
        return
    # Here, not above: what is wrong with an installation shall be told even where the SDK cannot be imported.
    from blocks_worker.transports.pubnub.reaching import network_time
    from blocks_worker.transports.pubnub.settings import PubNubSettings

    origin = redact(cdm.origin)
    keys = cdm.playground
    try:
        settings = PubNubSettings(
            cdm.origin, keys.publish_key, keys.subscribe_key, user_id="doctor", hold=cdm.pubnub.hold
        )
        begun = Clock().wall_ms()
        position = network_time(settings, timeout=_PATIENCE)
    except (BlocksError, ValueError) as error:
        cure = "let this machine reach it: firewall, proxy, name service"
        if is_loopback_url(cdm.origin if "://" in cdm.origin else f"https://{cdm.origin}"):
            cure = "start the hub again: its network lives and ends with it"
        yield Found("error", "network", f"{origin} does not answer ({redact(str(error))})", cure)
        return
    yield Found("note", "network", f"{origin} answers")
    told = list(_clock("the network", position / _TICKS, (begun + Clock().wall_ms()) / 2000))
    yield from (each for each in told if each.level != "note")
