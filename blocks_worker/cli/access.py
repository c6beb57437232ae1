"""How a command of `blocks` enters the hub, and what becomes of an error."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker.cli.exits import Exit, exit_of_consumer
from blocks_worker.cli.output import end_with, sentence, tell_unread
from blocks_worker.client.settings import Wishes, find_place
from blocks_worker.config import bypass_proxy_on_loopback, client_config, environment, is_loopback_url
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.refusals import fatal_told, key_cure
from blocks_worker.env_file import load_dotenv
from blocks_worker.errors import BlocksError
from blocks_worker.observability.logs import LEVELS, setup_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds for one answer of the hub.
_TIMEOUT = 10.0


class _Token:
    """Be the bearer of one command: it ends long before its token does."""

    def __init__(self, token: str) -> None:
        self._token = token

    def access_token(self) -> str:
        """Return the token."""
        return self._token

    def on_unauthorized(self, refused: str) -> bool:
        """Say that there is no other one."""
        del refused
        return False


@contextlib.contextmanager
def open_hub() -> Iterator[HubApi]:
    """Yield the hub's interface as the consumer that the environment says, and end the program in one line on error."""
    with enter_hub() as (door, api_key):
        yield door.bearing(_Token(door.consumer_token(api_key).access_token))


@contextlib.contextmanager
def enter_hub() -> Iterator[tuple[HubApi, str]]:
    """Yield the hub's door and the API key that the environment says, and end the program in one line on error."""
    with errors_told():
        config = client_config()
        place = find_place(Wishes(), config, "free", timeout=_TIMEOUT)
        in_environment = config.connection.api_key is not None
        cure = key_cure(given=False, environment=in_environment, is_local=is_loopback_url(place.hub_url))
        http = Http(place.hub_url, timeout=_TIMEOUT)
        try:
            with fatal_told(cure):
                yield HubApi(http), place.api_key
        finally:
            http.close()


@contextlib.contextmanager
def quick_hub(timeout: float) -> Iterator[HubApi]:
    """Yield the hub's interface as `open_hub` does, with so many seconds for an answer; errors come through."""
    load_dotenv(Path.cwd())
    bypass_proxy_on_loopback()
    place = find_place(Wishes(), client_config(), "free", timeout=timeout)
    http = Http(place.hub_url, timeout=timeout)
    try:
        door = HubApi(http)
        yield door.bearing(_Token(door.consumer_token(place.api_key).access_token))
    finally:
        http.close()


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
    """Take what ``.env`` sets, and turn an error into one line and an exit code."""
    try:
        tell_unread(load_dotenv(Path.cwd()))
        # What a command has to say it says itself; the log is for whoever asks for it.
        level = environment().get("LOG_LEVEL", "").lower()
        setup_logging(level if level in LEVELS else "error", "text")
        bypass_proxy_on_loopback()
        yield
    except KeyboardInterrupt:
        end_with(Exit.INTERRUPTED, "interrupted")
    except (BlocksError, OSError, ValueError, RuntimeError) as error:
        end_with(exit_of_consumer(error), sentence(error))
