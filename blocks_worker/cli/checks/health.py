"""Whether the health port that the environment names is free, or a worker's already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.cli.checks.ports import by_whom
from blocks_worker.cli.findings import Found, of_error
from blocks_worker.cli.health_port import HOST, SERVER, check_port
from blocks_worker.controlplane.http import Http
from blocks_worker.errors import ConfigurationError, HubUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHERE = "health port"
#: Seconds in which whoever listens on this machine has answered.
_PATIENCE = 2.0


def health(port: int | None) -> Iterator[Found]:
    """Try to listen where a start would."""
    if not port:
        return
    try:
        check_port(port)
    except ConfigurationError as error:
        found = of_error(_WHERE, error)
        if _is_a_workers(port):
            cure = "a second worker needs another one"
            found = Found("note", _WHERE, f"{port} is that of a worker which runs{by_whom(port)}", cure)
        yield found
    else:
        yield Found("note", _WHERE, f"{port} is free")


def _is_a_workers(port: int) -> bool:
    http = Http(f"http://{HOST}:{port}", timeout=_PATIENCE)
    try:
        return http.call("GET", "/livez", once=True).headers.get("Server", "").strip() == SERVER
    except HubUnavailableError:
        return False
    finally:
        http.close()
