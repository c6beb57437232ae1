"""How a command of `blocks` enters the hub, and what becomes of an error."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker.cli.exits import Exit, exit_of_consumer
from blocks_worker.cli.output import end_with
from blocks_worker.client.settings import Wishes, find_place
from blocks_worker.config import bypass_proxy_on_loopback, client_config, environment, load_dotenv
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.http import Http
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
    with errors_told():
        place = find_place(Wishes(), client_config(), "free", timeout=_TIMEOUT)
        http = Http(place.hub_url, timeout=_TIMEOUT)
        try:
            token = HubApi(http).consumer_token(place.api_key).access_token
            yield HubApi(http, _Token(token))
        finally:
            http.close()


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
    """Take what ``.env`` sets, and turn an error into one line and an exit code."""
    try:
        load_dotenv(Path.cwd())
        # What a command has to say it says itself; the log is for whoever asks for it.
        level = environment().get("LOG_LEVEL", "").lower()
        setup_logging(level if level in LEVELS else "error", "text")
        bypass_proxy_on_loopback()
        yield
    except KeyboardInterrupt:
        end_with(Exit.INTERRUPTED, "interrupted")
    except (BlocksError, OSError, ValueError, RuntimeError) as error:
        end_with(exit_of_consumer(error), str(error))
