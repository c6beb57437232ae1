"""`blocks-run`: its flags, its checks, and the start of a worker.

What a worker is made of is imported in the functions here, because signals have to count from the first
moment on, and the imports take longer than that.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blocks_worker import __version__
from blocks_worker.cli.exits import Exit, exit_of_worker
from blocks_worker.cli.flags import Flags
from blocks_worker.cli.output import end_with
from blocks_worker.cli.signals import Signals
from blocks_worker.errors import BlocksError

if TYPE_CHECKING:
    from blocks_worker.config import WorkerConfig
    from blocks_worker.runtime.options import AgentInstanceOptions

_logger = logging.getLogger(__name__)
_PROGRAM = "blocks-run"


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--handler", metavar="NAME", help="A handler of the registry, or module:function.")
@click.option("--registry", type=_FILE, help="The registry file.")
@click.option("--card", type=_FILE, help="Card mode with this card.")
@click.option("--concurrency", type=click.IntRange(min=0), help="Tasks at the same time; 0 is 64.")
@click.option("--instance-id", help="A stable name of this instance; a new process of it supersedes the old one.")
@click.option("--drain-timeout", type=click.FloatRange(min=0), help="Seconds that running tasks get after a signal.")
@click.option("--log-level", type=click.Choice(["error", "warn", "info", "debug"]))
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]))
@click.option("--no-local", is_flag=True, help="Never start or join the local hub; needs BLOCKS_CDM_URL.")
@click.option("--check", is_flag=True, help="Check configuration, card and handler, print findings, and end.")
@click.version_option(__version__, prog_name=_PROGRAM)
@click.pass_context
def run(ctx: click.Context, /, **given: Any) -> None:
    """Serve a handler as an agent until a signal comes."""
    flags = Flags(**given)
    signals = ctx.find_object(Signals)
    try:
        code = _act(flags, signals)
    except (BlocksError, ImportError, AttributeError, TypeError, ValueError, OSError, RuntimeError) as error:
        _logger.debug("start_failed", exc_info=True)
        end_with(exit_of_worker(error, started=False), str(error), _PROGRAM)
    raise SystemExit(int(code))


def main() -> None:
    """Run `blocks-run`; signals count from here on."""
    signals = Signals()
    signals.install()
    run.main(prog_name=_PROGRAM, obj=signals)


def _act(flags: Flags, signals: Signals | None) -> Exit:
    from blocks_worker.cli.choosing import chosen, configured

    config = configured(flags)
    options = chosen(flags, config)
    if flags.check:
        return _check(options, config)
    if signals is None:
        signals = Signals()
        signals.install()
    # Handlers compute while the listener and the publisher wait for their turn: 5 ms would be most of a task.
    sys.setswitchinterval(0.0002)
    from blocks_worker.cli.serving import Serving

    return Serving(options, config, signals).run()


def _check(options: AgentInstanceOptions, config: WorkerConfig) -> Exit:
    """Say what a start would find, without any network use."""
    from blocks_worker.concurrency import Entropy
    from blocks_worker.protocol.cards import check_card
    from blocks_worker.runtime.options import plan

    planned = plan(options, Entropy())
    connection = config.connection
    if connection.api_key is None and not connection.is_local:
        end_with(Exit.FAILED, "BLOCKS_API_KEY is not set; set it to the key that the hub's owner gave you", _PROGRAM)
    findings = check_card(options.card) if options.card else None
    for warning in findings.warnings if findings else ():
        click.echo(f"[agent] card: {warning}")
    click.echo(f"[agent] {planned.agent_name}: checked, {planned.concurrency} slots")
    return Exit.OK
