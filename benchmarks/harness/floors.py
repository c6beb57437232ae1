"""What the machine itself needs in this round: echoes of TCP and of a WebSocket, a commit, a write to the disk."""

from __future__ import annotations

import os
import queue
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

from websockets.sync.client import connect

from harness.figures import COMMITS, WEBSOCKET, quantile
from harness.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MESSAGE = b"x" * 400
#: The other end of the TCP echo: a process of its own.
_ECHO = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("ready", flush=True)
    peer = server.accept()[0]
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := peer.recv(65536):
        peer.sendall(data)
"""


#: The same for a WebSocket, with what our hub serves it by.
_WEBSOCKET_ECHO = """
import sys, uvicorn
async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("ready", flush=True)
how = {"lifespan": "off", "ws": "websockets-sansio", "ws_per_message_deflate": False, "log_level": "error"}
Server(uvicorn.Config(app, host="127.0.0.1", port=int(sys.argv[1]), **how)).run()
"""


def floors(folder: Path, count: int) -> dict[str, float]:
    """Return the median milliseconds of each floor."""
    return {
        "TCP echo, 400 bytes": tcp_echo(count),
        WEBSOCKET: websocket_echo(count),
        **{name: sqlite_commit(folder, count, "FULL" if full else "NORMAL") for full, name in COMMITS.items()},
        "fdatasync of one page": disk(folder, count),
    }


def _median(act: Callable[[], object], count: int) -> float:
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return quantile(taken, 0.5) * 1000


def tcp_echo(count: int) -> float:
    """Return the time of a message to another process and back."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", _ECHO, str(port)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def act() -> None:
                link.sendall(_MESSAGE)
                left = len(_MESSAGE)
                while left:
                    left -= len(link.recv(left))

            return _median(act, count)


def websocket_echo(count: int) -> float:
    """Return the time of a message to another process and back, for a thread that is woken by the one that reads."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", _WEBSOCKET_ECHO, str(port)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with connect(f"ws://127.0.0.1:{port}/", compression=None, proxy=None) as link:
            came: queue.SimpleQueue[object] = queue.SimpleQueue()
            reader = threading.Thread(target=lambda: [came.put(each) for each in link])
            reader.start()

            def act() -> None:
                link.send(_MESSAGE)
                came.get()

            taken = _median(act, count)
        reader.join()
        process.terminate()
    return taken


def sqlite_commit(folder: Path, count: int, synchronous: str) -> float:
    """Return the time of a commit of one row with two indexes, in WAL mode."""
    with closing(sqlite3.connect(folder / f"{synchronous}.db", isolation_level=None)) as database:
        database.executescript(
            f"PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};"
            "CREATE TABLE task (id INTEGER PRIMARY KEY, owner TEXT, state TEXT, body BLOB);"
            "CREATE INDEX task_owner ON task (owner, id); CREATE INDEX task_state ON task (state, id);"
        )

        def act() -> None:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO task (owner, state, body) VALUES ('me', 'QUEUED', ?)", (_MESSAGE,))
            database.execute("COMMIT")

        return _median(act, count)


def disk(folder: Path, count: int) -> float:
    """Return the time until a page that was written is on the disk."""
    with (folder / "floor.page").open("wb", buffering=0) as file:

        def act() -> None:
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())

        return _median(act, count)
