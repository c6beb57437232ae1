"""Configuration: frozen objects, and the only reader of the environment."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from blocks_worker.errors import ConfigurationError
from blocks_worker.protocol.leases import Numbers
from blocks_worker.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_logger = logging.getLogger(__name__)

DEFAULT_PORT = 3001
#: Where the document is looked for that names hub and network, when nothing else is configured.
DEFAULT_CDM_URL = f"http://127.0.0.1:{DEFAULT_PORT}/api/v1/cdm"
#: Largest artifact that travels inside its event, in bytes; the limit itself is inside.
INLINE_LIMIT = 16_384
#: Every variable with our prefix that is read, here or by scripts around us.
VARIABLES = frozenset(
    {
        "BLOCKS_API_KEY",
        "BLOCKS_BACKEND_URL",
        "BLOCKS_CDM_URL",
        "BLOCKS_EMBEDDED_HUB",
        "BLOCKS_HEALTH_PORT",
        "BLOCKS_HUB_URL",
        "BLOCKS_LOG_FORMAT",
        "BLOCKS_MAX_RSS_MB",
        "BLOCKS_PUBLISH_KEY",
        "BLOCKS_REGISTRY",
        "BLOCKS_STATE_DIR",
        "BLOCKS_SUBSCRIBE_KEY",
        "BLOCKS_TRANSPORT",
    }
)
#: Settings of streams that are known and change nothing, and why.
_NO_EFFECT = {
    "STREAM_MAX_LATENCY_MS": "what is written leaves at once, or with what gathers behind one publish",
    "STREAM_GATING": "readers that are there always slow a writer, others never",
}

#: Least and most bytes of one frame of a stream: more than one does not fit into what the network takes.
FRAME_BYTES = (1_024, 22_528)
MOST_PORT = 65_535
#: Name of the credential by which systemd hands the API key over.
CREDENTIAL = "api-key"
LOG_LEVELS = ("error", "warn", "info", "debug")
#: What a hub can be spoken to by.
TRANSPORTS = ("pubnub", "hublink")
SYNCHRONOUS = ("full", "normal")
LOG_FORMATS = ("auto", "text", "json")

_HOST_ALONE = re.compile(r"https?://[^/?#]+/?\Z")

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """Say how a hub runs.

    Attributes:
        public: allow another address than loopback without TLS.
        hold: seconds that the local network keeps an empty poll open.
        reserve_bytes: below so much free room on the ledger's disk no new task is taken; None: 5 % of the disk,
            within 200 MB and 1 GB, and at most a quarter of it.
        access_life: seconds that an access token lives, at most an hour; whole, as the next two.
        refresh_life: seconds in which a refresh token can be used.
        grant_life: seconds that a grant for channels of the network lives.
        embedded: the hub lives inside a worker: a port in use is no error, the next free one is taken.
        port_before: of an embedded hub that comes after another one: where that was, and others look; 0: after none.
        testing: let tests reach the fault hooks.
        transport: what its document tells others to speak by; it listens to both.
        synchronous: one of `SYNCHRONOUS`. ``full``: what is acknowledged is on the disk; ``normal``: it survives
            the end of every process, and may not survive a loss of power.
        quotas: how much of it one owner, or one run, may have.
    """

    state_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    network_port: int = 0
    public: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    hold: float = 20.0
    retention_limit: int = 100
    numbers: Numbers = field(default_factory=Numbers)
    reserve_bytes: int | None = None
    access_life: int = 3600
    refresh_life: int = 7 * 86_400
    grant_life: int = 3600
    embedded: bool = False
    port_before: int = 0
    testing: bool = False
    transport: str = "pubnub"
    synchronous: str = "full"
    quotas: Quotas = field(default_factory=Quotas)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Say how to find and enter a hub.

    Attributes:
        cdm_url: address of the document that says where hub and network are; None: look for the local hub.
        api_key: None in local mode: the key of the state folder is used.
        transport: what to speak to the hub by; None: what its document says.
    """

    state_dir: Path
    cdm_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    transport: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the address is on this machine."""
        return self.cdm_url is None or is_loopback_url(self.cdm_url)


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Say how streams are cut.

    Attributes:
        frame_bytes: most bytes of a frame as it travels.
        bundle_bytes: a frame with as many bytes takes nothing more.
    """

    frame_bytes: int = 16_384
    bundle_bytes: int = 4_096


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Say what a client takes from its surroundings."""

    connection: Connection
    subscribe_key: str | None = None
    publish_key: str | None = None
    base_url: str | None = None
    inline_limit: int = INLINE_LIMIT
    streams: StreamConfig = field(default_factory=StreamConfig)


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Say what a worker takes from its surroundings.

    Attributes:
        health_port: port on loopback where `blocks-run` tells how it does; 0 is any free one, None is none.
        notify_socket: where the service manager hears how the program stands.
        watchdog: seconds of silence there after which it ends the program; None: it does not.
        max_rss_mb: MiB of memory in RAM beyond which no new task is taken; None: any number.
    """

    connection: Connection
    embedded_hub: bool = True
    drain_timeout: float = 60.0
    inline_limit: int = INLINE_LIMIT
    streams: StreamConfig = field(default_factory=StreamConfig)
    registry: Path | None = None
    notify_socket: str | None = None
    watchdog: float | None = None
    log_level: str = "info"
    log_format: str = "auto"
    health_port: int | None = None
    max_rss_mb: int | None = None


def environment() -> dict[str, str]:
    """Return a copy of the process environment."""
    return dict(os.environ)


def wants_colour() -> bool:
    """Tell whether text on a terminal may be coloured."""
    env = environment()
    return not env.get("NO_COLOR") and env.get("TERM", "dumb") != "dumb"


def client_config(env: Mapping[str, str] | None = None) -> ClientConfig:
    """Return the client's configuration from the environment."""
    env = environment() if env is None else env
    return ClientConfig(
        connection=connection(env),
        subscribe_key=_text(env, "BLOCKS_SUBSCRIBE_KEY"),
        publish_key=_text(env, "BLOCKS_PUBLISH_KEY"),
        base_url=_text(env, "BLOCKS_BACKEND_URL"),
        inline_limit=_number(env, "ARTIFACT_INLINE_LIMIT_BYTES", int, INLINE_LIMIT),
        streams=stream_config(env),
    )


def worker_config(env: Mapping[str, str] | None = None) -> WorkerConfig:
    """Return the worker's configuration from the environment."""
    env = environment() if env is None else env
    registry = _text(env, "BLOCKS_REGISTRY")
    return WorkerConfig(
        connection=connection(env),
        embedded_hub=_flag(env, "BLOCKS_EMBEDDED_HUB", default=True),
        drain_timeout=_number(env, "AGENT_SHUTDOWN_GRACE_SEC", float, 60.0),
        inline_limit=_number(env, "ARTIFACT_INLINE_LIMIT_BYTES", int, INLINE_LIMIT),
        streams=stream_config(env),
        registry=Path(registry).absolute() if registry else None,
        notify_socket=_text(env, "NOTIFY_SOCKET"),
        watchdog=_watchdog(env),
        log_level=_choice(env, "LOG_LEVEL", LOG_LEVELS, "info"),
        log_format=_choice(env, "BLOCKS_LOG_FORMAT", LOG_FORMATS, "auto"),
        health_port=_port(env, "BLOCKS_HEALTH_PORT"),
        max_rss_mb=_number(env, "BLOCKS_MAX_RSS_MB", int, 0) or None,
    )


def stream_config(env: Mapping[str, str] | None = None) -> StreamConfig:
    """Return how streams are cut."""
    env = environment() if env is None else env
    _say_without_effect(env)
    return StreamConfig(
        frame_bytes=_between(env, "STREAM_MAX_MESSAGE_SIZE", 16_384, *FRAME_BYTES),
        bundle_bytes=_between(env, "STREAM_BUNDLE_SIZE", 4_096, 1, FRAME_BYTES[1]),
    )


def connection(env: Mapping[str, str] | None = None) -> Connection:
    """Return where the hub is looked for."""
    env = environment() if env is None else env
    cdm_url = _document(env, "BLOCKS_CDM_URL")
    hub_url = _text(env, "BLOCKS_HUB_URL")
    if cdm_url is None and hub_url is not None:
        cdm_url = f"{hub_url.rstrip('/')}/api/v1/cdm"
        if not _is_address(cdm_url):
            raise ConfigurationError(
                f"BLOCKS_HUB_URL={hub_url!r} is no address (http://…, https://…); mend it or unset it"
            )
    told = _text(env, "BLOCKS_TRANSPORT")
    return Connection(
        state_dir=state_dir(env),
        cdm_url=cdm_url,
        api_key=_api_key(env),
        transport=None if told is None else _choice(env, "BLOCKS_TRANSPORT", TRANSPORTS, ""),
    )


def state_dir(env: Mapping[str, str] | None = None) -> Path:
    """Return the user's state folder."""
    env = environment() if env is None else env
    chosen = _text(env, "BLOCKS_STATE_DIR")
    if chosen is not None:
        return Path(chosen).expanduser().absolute()
    base = _text(env, "XDG_STATE_HOME")
    try:
        home = Path(base) if base else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise ConfigurationError("there is no home folder for state; set BLOCKS_STATE_DIR to a folder") from error
    return home.absolute() / "blocks_worker"


def bypass_proxy_on_loopback() -> None:
    """Keep traffic to this machine away from a proxy, for libraries that read the environment."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        missing = [host for host in ("127.0.0.1", "localhost", "::1") if host not in hosts]
        if missing and "*" not in hosts:
            os.environ[name] = ",".join([*hosts, *missing])


def is_loopback_url(url: str) -> bool:
    """Tell whether the address is on this machine."""
    return is_loopback_host(urlsplit(url).hostname or "")


def is_loopback_host(host: str) -> bool:
    """Tell whether the host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _say_without_effect(env: Mapping[str, str]) -> None:
    """Say of a setting of streams that it is known and changes nothing; a bad value is an error all the same."""
    _number(env, "STREAM_MAX_LATENCY_MS", float, 250.0)
    _flag(env, "STREAM_GATING", default=True)
    for name, why in _NO_EFFECT.items():
        if _text(env, name) is not None:
            _logger.debug("setting_without_effect", extra={"setting": name, "why": why})


def _api_key(env: Mapping[str, str]) -> str | None:
    """Return the API key that the environment says, else the one that the service manager hands over in a file."""
    folder = _text(env, "CREDENTIALS_DIRECTORY")
    key = _text(env, "BLOCKS_API_KEY")
    if key is not None or folder is None:
        return key
    path = Path(folder) / CREDENTIAL
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the credential {path} cannot be read ({error}); mend the file that it is from"
        ) from error


def _watchdog(env: Mapping[str, str]) -> float | None:
    """Return the seconds of the service manager's watchdog, if it watches over this process."""
    if _text(env, "WATCHDOG_PID") not in {None, str(os.getpid())}:
        return None
    return _number(env, "WATCHDOG_USEC", float, 0.0) / 1_000_000 or None


def _text(env: Mapping[str, str], name: str) -> str | None:
    return env.get(name, "").strip() or None


def _document(env: Mapping[str, str], name: str) -> str | None:
    """Return the address or path of a document; what can be neither is refused here, before anything is asked of it.

    The bare address of a hub means the document of that hub.
    """
    place = _text(env, name)
    if place is not None and _HOST_ALONE.match(place) and _is_address(place):
        return f"{place.rstrip('/')}/api/v1/cdm"
    if place is None or _is_address(place) or Path(place).expanduser().is_file():
        return place
    raise ConfigurationError(
        f"{name}={place!r} is neither an address (http://…, https://…) nor a file that is there; mend it or unset it"
    )


def _is_address(place: str) -> bool:
    """Tell whether something may be found there; with a port that is none, or half an IPv6 address, nothing is."""
    try:
        parts = urlsplit(place)
        return place.startswith(("http://", "https://")) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _number(env: Mapping[str, str], name: str, kind: Callable[[str], _T], default: _T) -> _T:
    text = _text(env, name)
    if text is None:
        return default
    wrong = ConfigurationError(f"{name}={text!r} is not a number of zero or more; mend it or unset it")
    try:
        value = kind(text)
    except ValueError as error:
        raise wrong from error
    if not 0 <= value < 2**53:  # type: ignore[operator]  # int or float
        raise wrong
    return value


def _between(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    value = _number(env, name, int, default)
    if not least <= value <= most:
        raise ConfigurationError(f"{name}={value} is not within {least} and {most}; mend it or unset it")
    return value


def _port(env: Mapping[str, str], name: str) -> int | None:
    text = _text(env, name)
    if text is None or text.lower() == "off":
        return None
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= MOST_PORT):
        raise ConfigurationError(f"{name}={text!r} is no port from 0 to {MOST_PORT} and not off; mend it or unset it")
    return int(text)


def _choice(env: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    text = (_text(env, name) or default).lower()
    if text not in choices:
        raise ConfigurationError(f"{name}={text!r} is none of {', '.join(choices)}")
    return text


def _flag(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = _text(env, name)
    if text is None:
        return default
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ConfigurationError(f"{name}={text!r} is neither 1 nor 0")
