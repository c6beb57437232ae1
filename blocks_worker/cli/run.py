"""`blocks-run`: its flags, its checks, and the start of a worker.

What a worker is made of is imported in the functions here, because a command line that is wrong is told at once.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blocks_worker import __version__
from blocks_worker.cli.allocator import few_arenas
from blocks_worker.cli.exits import Exit, exit_of_worker
from blocks_worker.cli.flags import Flags
from blocks_worker.cli.output import counted, end_with, say, sentence
from blocks_worker.cli.signals import Signals
from blocks_worker.errors import BlocksError
from blocks_worker.observability.redact import one_line

if TYPE_CHECKING:
    from types import TracebackType

    from click.shell_completion import CompletionItem

    from blocks_worker.config import WorkerConfig
_logger = logging.getLogger(__name__)
PROGRAM = "blocks-run"


_FILE = click.Path(dir_okay=False, path_type=Path)


def _offered_handlers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what a shell offers for --handler."""
    from blocks_worker.cli.completion import handlers

    return handlers(ctx, param, incomplete)


@click.command()
@click.option(
    "--handler",
    "handlers",
    metavar="NAME",
    multiple=True,
    shell_complete=_offered_handlers,
    help="A handler of the registry, or module:function; again for more agents in this process.",
)
@click.option("--registry", type=_FILE, help="The registry file.")
@click.option("--card", type=_FILE, help="Card mode with this card.")
@click.option("--concurrency", type=click.IntRange(min=0), help="Tasks at the same time; 0 is 64.")
@click.option("--instance-id", help="A stable name of this instance; a new process of it supersedes the old one.")
@click.option("--drain-timeout", type=click.FloatRange(min=0), help="Seconds that running tasks get after a signal.")
@click.option("--log-level", type=click.Choice(["error", "warn", "info", "debug"]))
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]))
@click.option(
    "--health-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Answer /livez, /readyz, /worker and /metrics on this port of 127.0.0.1; 0 is any free one.  [default: off]",
)
@click.option("--no-local", is_flag=True, help="Never start or join the local hub; needs BLOCKS_CDM_URL.")
@click.option("--check", is_flag=True, help="Check configuration, card and handler, print findings, and end.")
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def run(ctx: click.Context, /, handlers: tuple[str, ...], **given: Any) -> None:
    """Serve a handler as an agent, or several as one each, until a signal comes."""
    flags = _each(handlers, given)
    signals = ctx.find_object(Signals)
    if signals is not None and given["check"]:
        signals.end_at_once(Exit.INTERRUPTED)
    try:
        code = _act(flags, signals)
    except (BlocksError, ImportError, AttributeError, TypeError, ValueError, OSError, RuntimeError) as error:
        trace = _worth_showing(error)
        if trace is not None:
            _logger.debug("start_failed", exc_info=trace)
        end_with(exit_of_worker(error, started=False), sentence(error), PROGRAM)
    raise SystemExit(int(code))


def _worth_showing(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType] | None:
    """Return the traceback that helps: of a user's module its own frames; none where the sentence says it all."""
    is_theirs = isinstance(error, ImportError) and error.__cause__ is not None
    if isinstance(error, BlocksError) and not is_theirs:
        return None
    found = error.__cause__ if is_theirs and error.__cause__ is not None else error
    trace = found.__traceback__
    while is_theirs and trace is not None and _leads_there(trace.tb_frame.f_globals.get("__name__") or ""):
        trace = trace.tb_next
    return None if trace is None else (type(found), found, trace)


def _leads_there(module: str) -> bool:
    """Tell whether a module is of those that import a user's."""
    return module.startswith(("blocks_worker.", "importlib"))


def _each(handlers: tuple[str, ...], given: dict[str, Any]) -> list[Flags]:
    """Return what the command line says of each agent; they differ in the handler only."""
    if len(handlers) > 1:
        if given["instance_id"] is not None:
            raise click.UsageError(
                "--instance-id names one instance; leave it out, or start a process for each handler"
            )
        if given["card"] is not None:
            raise click.UsageError("--card is the card of one agent; name the cards of several in registry.json")
    return [Flags(handler=handler, **given) for handler in handlers or (None,)]


def _act(flags: list[Flags], signals: Signals | None) -> Exit:
    from blocks_worker.cli.choosing import all_chosen, configured
    from blocks_worker.config import environment

    config = configured(flags[0])
    if flags[0].check:
        return _check(flags, config)
    options = all_chosen(flags, config)
    if signals is None:
        signals = Signals()
        signals.install()
    few_arenas(environment())
    from blocks_worker.cli.serving import Serving

    serving = Serving(options, config, signals)
    if config.health_port is None:
        return serving.run()
    from blocks_worker.cli.health_pages import HealthPages
    from blocks_worker.cli.health_port import HealthPort

    with HealthPort(config.health_port, HealthPages(serving.agents)) as port:
        say(f"health {port.url}/readyz")
        return serving.run()


def _check(flags: list[Flags], config: WorkerConfig) -> Exit:
    """Say what a start would find, without any network use; only errors make it fail."""
    from blocks_worker.cli.checks.variables import dotenv
    from blocks_worker.cli.findings import findings_of_starts

    found, plans = findings_of_starts(flags, config)
    for finding in [*dotenv(), *found]:
        is_error = finding.level == "error"
        click.echo(f"{f'{PROGRAM}:' if is_error else '[agent]'} {one_line(str(finding))}", err=is_error)
    if len(plans) < len(flags) or any(finding.level == "error" for finding in found):
        return Exit.FAILED
    for planned in plans:
        say(f"{planned.agent_name}: checked, {counted(planned.concurrency, 'slot')}")
    return Exit.OK
