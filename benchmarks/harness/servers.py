"""Start what holds the tasks: our hub, Redis, PostgreSQL or a file; each on a private port with a fresh store."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.environments import MissingError
from harness.processes import answers, free_port, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from harness.entries import Entry

#: Beside the interpreter: the programs of the product.
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Server:
    """A store that runs."""

    #: None where there is no process: a file.
    pid: int | None
    #: Seconds from its start until it answered.
    started_in: float = 0.0
    #: How worker and client find it.
    env: dict[str, str] = field(default_factory=dict)


def program(name: str, package: str) -> str:
    """Return the path of a program of the system.

    Raises:
        MissingError: it is not installed.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(debian[-1]) if debian else None)
    if found is None:
        raise MissingError(f"{name} is not installed: apt-get install {package}")
    return found


@contextmanager
def redis(folder: Path, entry: Entry) -> Iterator[Server]:
    """Run Redis with an append-only file; fsync at each write for a durable entry, else each second."""
    port = free_port()
    fsync = "always" if entry.is_durable else "everysec"
    args = [program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    args += ["--appendonly", "yes", "--appendfsync", fsync, "--dir", str(folder)]
    start = time.perf_counter()
    with running(args, folder / "server.log", is_ready=lambda: answers(port)) as pid:
        yield Server(pid, time.perf_counter() - start, {"BENCH_URL": f"redis://127.0.0.1:{port}/0"})


@contextmanager
def postgres(folder: Path, entry: Entry) -> Iterator[Server]:
    """Run PostgreSQL; commits wait for the disk for a durable entry."""
    initdb, server = program("initdb", "postgresql"), program("postgres", "postgresql")
    user = _unprivileged()
    data, port = folder / "data", free_port()
    data.mkdir()
    if user:
        folder.chmod(0o755)
        shutil.chown(data, user)
    made = [initdb, "--no-sync", "--auth=trust", "--username=bench", "--encoding=UTF8", "--locale=C", str(data)]
    subprocess.run(made, check=True, capture_output=True, user=user, cwd=data)
    commit = "on" if entry.is_durable else "off"
    settings = [
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
        "-c",
        f"synchronous_commit={commit}",
    ]
    args = [server, "-D", str(data), "-p", str(port), *settings]
    start = time.perf_counter()
    log = folder / "server.log"
    ready = "database system is ready"
    with running(args, log, is_ready=lambda: ready in log.read_text(errors="replace"), user=user, folder=data) as pid:
        url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        yield Server(pid, time.perf_counter() - start, {"BENCH_URL": url})


def _unprivileged() -> str | None:
    """Return whom PostgreSQL runs as when root starts it, which it refuses to be; None: as we are."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def hub(folder: Path, entry: Entry) -> Iterator[Server]:
    """Run our hub; commits wait for the disk for a durable entry."""
    port = free_port()
    env = {
        "BLOCKS_STATE_DIR": str(folder / "state"),
        "BLOCKS_CDM_URL": f"http://127.0.0.1:{port}/api/v1/cdm",
        "LOG_LEVEL": "warn",
        "BENCH_TRANSPORT": entry.transport,
    }
    args = [str(PROGRAMS / "blocks-hub"), "--port", str(port)]
    if not entry.is_durable:
        args += ["--synchronous", "normal"]
    if entry.transport != "pubnub":
        args += ["--transport", entry.transport]
    log = folder / "server.log"
    start = time.perf_counter()
    with running(
        args, log, is_ready=lambda: "[hub] listening" in log.read_text(errors="replace"), env={**os.environ, **env}
    ) as pid:
        yield Server(pid, time.perf_counter() - start, env)


def file(folder: Path, _entry: Entry) -> AbstractContextManager[Server]:
    """Name a file that worker and client share."""
    return nullcontext(Server(None, env={"BENCH_URL": str(folder / "queue.db")}))


SERVERS: dict[str, Callable[[Path, Entry], AbstractContextManager[Server]]] = {
    "redis": redis,
    "postgres": postgres,
    "hub": hub,
    "file": file,
}
