"""Whether the ports of the local hub and its network are free, or its own, or somebody else's."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from blocks_worker.cli.findings import Found
from blocks_worker.config import DEFAULT_PORT
from blocks_worker.controlplane.http import Http
from blocks_worker.errors import ConfigurationError, HubUnavailableError
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.config import Connection

_WHERE = "ports"
#: Seconds in which whoever listens on this machine has answered.
_PATIENCE = 2.0
_PROC = Path("/proc")
_TABLES = ("net/tcp", "net/tcp6")
#: How the kernel writes that a socket listens, and the column of its number.
_LISTENS, _INODE = "0A", 9
_ALIVE = b'{"status":"ok"}'


class _Port(NamedTuple):
    number: int
    of: str
    #: What a start does about it when the port is somebody else's.
    cure: str


def ports(connection: Connection) -> Iterator[Found]:
    """Look at each port that a hub on this machine would take; one elsewhere has no ports here."""
    if not connection.is_local:
        return
    folder = StateFolder(connection.state_dir)
    try:
        local = folder.discovered()
        wanted = list(_wanted(connection, folder))
    except ConfigurationError:
        # What is wrong is told of the state folder.
        yield Found("note", _WHERE, "not looked at: the state folder, which tells them, cannot be read")
        return
    if local is not None:
        text = f"{urlsplit(local.url).port} and {urlsplit(local.origin).port} are those of the local hub"
        yield Found("note", _WHERE, f"{text}, process {local.pid}")
        return
    for port in wanted:
        yield _looked_at(port)


def _wanted(connection: Connection, folder: StateFolder) -> Iterator[_Port]:
    told = None if connection.cdm_url is None else urlsplit(connection.cdm_url)
    if told is not None and told.scheme in {"http", "https"}:
        cure = "stop it, or name the hub's own address in BLOCKS_CDM_URL"
        yield _Port(told.port or (443 if told.scheme == "https" else 80), "the hub in BLOCKS_CDM_URL", cure)
    else:
        cure = "stop it, or give 'blocks-hub' another with --port; 'blocks-run' takes the next one that is free"
        yield _Port(folder.kept_port("hub") or DEFAULT_PORT, "the hub", cure)
    network = folder.kept_port("network")
    if network:
        cure = "stop it, or let the network take another one, which whoever runs then finds by the hub"
        yield _Port(network, "the network", cure)


def _looked_at(port: _Port) -> Found:
    http = Http(f"http://127.0.0.1:{port.number}", timeout=_PATIENCE)
    try:
        answer = http.call("GET", "/livez", once=True)
    except HubUnavailableError as error:
        if _is_refused(error):
            return Found("note", _WHERE, f"{port.number} is free, for {port.of}")
        return _taken(port)
    finally:
        http.close()
    if answer.body == _ALIVE:
        return Found("note", _WHERE, f"a hub that is not of this state folder has {port.number}{by_whom(port.number)}")
    return _taken(port)


def _taken(port: _Port) -> Found:
    text = f"{port.number}, the port of {port.of}, is taken by something that is no hub{by_whom(port.number)}"
    return Found("warning", _WHERE, text, port.cure)


def _is_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__
    return False


def by_whom(port: int) -> str:
    """Return who listens there, as far as this user may know."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(_link(each) in wanted for each in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f": {name}, process {process.name}"
    return ""


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # it was closed meanwhile
        return ""


def _inodes(port: int) -> Iterator[str]:
    """Yield the numbers of the sockets that listen on a port."""
    for table in _TABLES:
        try:
            lines = (_PROC / "self" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[_INODE]
