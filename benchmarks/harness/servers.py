"""Start what holds the tasks: our hub, a store, a broker or a file; each on a private port with a fresh folder."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.environments import MissingError, interpreter
from harness.processes import answers, free_port, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
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
    # What Debian puts into the path for RabbitMQ changes its user and its folder; the programs themselves lie here.
    path = os.pathsep.join(["/usr/lib/rabbitmq/bin", os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path) or (str(debian[-1]) if debian else None)
    if found is None:
        raise MissingError(f"{name} is not installed: apt-get install {package}")
    return found


def server_versions(entries: Sequence[Entry]) -> dict[str, str]:
    """Return RabbitMQ's version, which its folder names, when an entry needs it: to ask it would start a daemon."""
    if not any(entry.server == "rabbitmq" for entry in entries):
        return {}
    with suppress(MissingError):
        named = re.search(r"rabbitmq_server-([\d.]+)", str(_rabbitmq().resolve()))
        return {"rabbitmq-server": named[1] if named else "unknown"}
    return {}


def _rabbitmq() -> Path:
    return Path(program("rabbitmq-server", "rabbitmq-server"))


@contextmanager
def redis(folder: Path, entry: Entry) -> Iterator[Server]:
    """Run Redis with an append-only file; fsync at each write for a durable entry, else each second."""
    port = free_port()
    start = time.perf_counter()
    with running(_redis_args(folder, port, entry), folder / "server.log", is_ready=lambda: answers(port)) as pid:
        yield Server(pid, time.perf_counter() - start, {"BENCH_URL": _redis_url(port)})


def _redis_args(folder: Path, port: int, entry: Entry) -> list[str]:
    fsync = "always" if entry.is_durable else "everysec"
    args = [program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    return [*args, "--appendonly", "yes", "--appendfsync", fsync, "--dir", str(folder)]


def _redis_url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


@contextmanager
def _beside_redis(
    folder: Path, entry: Entry, args: list[str], port: int, url: str, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a broker, and Redis for the results below it, so that both count as one."""
    results = free_port()
    both = ["sh", "-c", f"{shlex.join(_redis_args(folder, results, entry))} & exec {shlex.join(args)}"]
    start = time.perf_counter()
    log = folder / "server.log"
    with running(both, log, is_ready=lambda: answers(results) and answers(port), env=env, folder=folder) as pid:
        yield Server(pid, time.perf_counter() - start, {"BENCH_URL": url, "BENCH_RESULTS": _redis_url(results)})


@contextmanager
def rabbitmq(folder: Path, entry: Entry) -> Iterator[Server]:
    """Run RabbitMQ, and Redis for the results; it syncs what it confirms."""
    args, names = [str(_rabbitmq())], program("epmd", "erlang-base")
    port, names_port = free_port(), free_port()
    env = {**os.environ, **_rabbitmq_env(folder, port, names_port)}
    url = f"amqp://guest:guest@127.0.0.1:{port}/%2F"
    # RabbitMQ would start it as a daemon, which outlives it.
    named = [names, "-address", "127.0.0.1", "-port", str(names_port)]
    with (
        running(named, folder / "epmd.log", is_ready=lambda: answers(names_port), env=env),
        _beside_redis(folder, entry, args, port, url, env) as server,
    ):
        yield server


def _rabbitmq_env(folder: Path, port: int, names_port: int) -> dict[str, str]:
    """Return what keeps a RabbitMQ apart from all others of the machine, and on loopback."""
    (folder / "plugins").write_text("[].\n", encoding="utf-8")
    return {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names_port),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none.env"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
        "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_NODENAME": f"bench-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }


@contextmanager
def nats(folder: Path, entry: Entry) -> Iterator[Server]:
    """Run NATS with JetStream."""
    port = free_port()
    start = time.perf_counter()
    with running(_nats_args(folder, port, entry), folder / "server.log", is_ready=lambda: answers(port)) as pid:
        yield Server(pid, time.perf_counter() - start, {"BENCH_URL": f"nats://127.0.0.1:{port}"})


def nats_redis(folder: Path, entry: Entry) -> AbstractContextManager[Server]:
    """Run NATS with JetStream, and Redis for the results."""
    port = free_port()
    return _beside_redis(folder, entry, _nats_args(folder, port, entry), port, f"nats://127.0.0.1:{port}")


def _nats_args(folder: Path, port: int, entry: Entry) -> list[str]:
    """Have each write synced for a durable entry, else leave it at what NATS does by itself: each two minutes."""
    # From the entry's own packages: Debian 12 has one that cannot sync each write.
    server = interpreter(entry.peer, entry.packages).parent / "nats-server"
    kept = {"store_dir": str(folder / "store"), **({"sync_interval": "always"} if entry.is_durable else {})}
    config = folder / "nats.conf"
    config.write_text(json.dumps({"listen": f"127.0.0.1:{port}", "jetstream": kept}), encoding="utf-8")
    return [str(server), "--config", str(config)]


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
    "rabbitmq": rabbitmq,
    "nats": nats,
    "nats-redis": nats_redis,
    "postgres": postgres,
    "hub": hub,
    "file": file,
}
