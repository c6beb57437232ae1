"""The command `blocks-hub`: run a hub until a signal ends it."""

from __future__ import annotations

import queue
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from blocks_worker.cli.exits import Exit
from blocks_worker.cli.reporting import Reporter
from blocks_worker.config import (
    DEFAULT_PORT,
    LOG_FORMATS,
    LOG_LEVELS,
    SYNCHRONOUS,
    TRANSPORTS,
    HubConfig,
    environment,
    worker_config,
)
from blocks_worker.errors import BlocksError, FolderInUseError
from blocks_worker.hub.hub import Hub
from blocks_worker.observability.logs import setup_logging
from blocks_worker.quotas import VARIABLES, Quotas, quotas_of

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., object]")

#: Seconds between two looks whether the hub ended by itself.
LOOK = 1.0

_PATH = click.Path(path_type=Path)


def _quota(flag: str, text: str) -> Callable[[F], F]:
    """Return the option of one quota; its default stands beside its name, not here."""
    name = flag.removeprefix("--max-").replace("-", "_")
    usual = getattr(Quotas(), name)
    usual = "three quarters of all, from this machine any number" if usual is None else usual
    default = f"[default: {VARIABLES[name]}, or {usual}; 0: no limit]"
    return click.option(flag, type=click.IntRange(0, 2**53 - 1), metavar="NUMBER", help=f"{text}  {default}")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="Port of the hub.")
@click.option("--network-port", default=0, type=click.IntRange(0, 65535), help="Port of the network; 0: the last one.")
@click.option("--state-dir", "folder", type=_PATH, help="Where ledger and secrets are kept.  [default: the user's]")
@click.option("--public", is_flag=True, help="Serve others in clear text: tokens can be read on the way.")
@click.option("--tls-cert", type=_PATH, help="Certificate file.")
@click.option("--tls-key", type=_PATH, help="Key file of the certificate.")
@click.option(
    "--hold", default=20.0, show_default=True, type=click.FloatRange(1, 300), help="Seconds of an empty poll."
)
@click.option(
    "--transport",
    default="pubnub",
    show_default=True,
    type=click.Choice(TRANSPORTS),
    help="What its document tells others to speak by; it listens to both.",
)
@click.option(
    "--synchronous",
    default="full",
    show_default=True,
    type=click.Choice(SYNCHRONOUS),
    help="full: what is acknowledged survives a loss of power; normal: the death of any process, and is faster.",
)
@_quota("--max-open-tasks", "Tasks of one owner that have not ended.")
@_quota("--max-submits", "New tasks of one owner in a second.")
@_quota("--max-input-bytes", "Bytes of inputs that are kept of one owner.")
@_quota("--max-run-events", "Events that one run may store.")
@_quota("--max-run-event-bytes", "Bytes of them.")
@_quota("--max-address-connections", "Connections of one address to the hub, and to its network.")
@click.option("--log-level", type=click.Choice(LOG_LEVELS), help="How much is told.  [default: LOG_LEVEL, or info]")
@click.option("--log-format", type=click.Choice(LOG_FORMATS), help="How it is told.  [default: BLOCKS_LOG_FORMAT]")
@click.version_option(package_name="blocks_worker", prog_name="blocks-hub")
def main(  # noqa: PLR0913 - one argument an option
    *,
    host: str,
    port: int,
    network_port: int,
    folder: Path | None,
    public: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    hold: float,
    transport: str,
    synchronous: str,
    max_open_tasks: int | None,
    max_submits: int | None,
    max_input_bytes: int | None,
    max_run_events: int | None,
    max_run_event_bytes: int | None,
    max_address_connections: int | None,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run a hub: the ledger of tasks and the local network beside it."""
    ending = _ending_signals()
    try:
        surroundings = worker_config()
        setup_logging(log_level or surroundings.log_level, log_format or surroundings.log_format)
        config = HubConfig(
            state_dir=(folder or surroundings.connection.state_dir).absolute(),
            host=host,
            port=port,
            network_port=network_port,
            public=public,
            tls_cert=tls_cert,
            tls_key=tls_key,
            hold=hold,
            transport=transport,
            synchronous=synchronous,
            quotas=quotas_of(
                environment(),
                {
                    "open_tasks": max_open_tasks,
                    "submits": max_submits,
                    "input_bytes": max_input_bytes,
                    "run_events": max_run_events,
                    "run_event_bytes": max_run_event_bytes,
                    "address_connections": max_address_connections,
                },
            ),
        )
        sys.exit(_serve(Hub(config), ending, Reporter(surroundings)))
    except BlocksError as error:
        click.echo(f"[hub] {error}", err=True)
        sys.exit(Exit.SUPERSEDED if isinstance(error, FolderInUseError) else Exit.FAILED)


def _serve(hub: Hub, ending: queue.SimpleQueue[int], reporter: Reporter) -> int:
    """Run the hub until a signal, or until it ended by itself; return the exit code."""
    where = hub.start()
    click.echo(f"[hub] listening on {where.url}, network on {where.origin}")
    status = f"ready, listening on {where.url}"
    reporter.ready(status)
    while not _signalled(ending, min(LOOK, reporter.interval or LOOK)):
        if not hub.is_alive():
            click.echo("[hub] the ledger failed: see the log, mend the disk, start again", err=True)
            return Exit.RESTART
        reporter.tell(status, behind=hub.behind())
    click.echo("[hub] stopping")
    reporter.stopping("stopping")
    hub.stop()
    return 0


def _signalled(ending: queue.SimpleQueue[int], timeout: float) -> bool:
    try:
        ending.get(timeout=timeout)
    except queue.Empty:
        return False
    return True


def _ending_signals() -> queue.SimpleQueue[int]:
    """Return a queue that gets every SIGTERM and SIGINT.

    An event would do worse: setting it in a handler can meet its own lock, held by the wait that it interrupts.
    """
    ending: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: ending.put(received))
    return ending
