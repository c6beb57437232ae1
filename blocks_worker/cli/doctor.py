"""`blocks doctor`: what is wrong on this machine and with its configuration, and what to do next. Changes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blocks_worker.cli.check import findings_of_folder
from blocks_worker.cli.checks.folder import state_folder
from blocks_worker.cli.checks.health import health
from blocks_worker.cli.checks.hub import hub
from blocks_worker.cli.checks.kept import kept
from blocks_worker.cli.checks.machine import machine
from blocks_worker.cli.checks.ports import ports
from blocks_worker.cli.checks.variables import dotenv, variables
from blocks_worker.cli.choosing import configured
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.findings import ERRORS, Found, of_error
from blocks_worker.cli.flags import Flags
from blocks_worker.cli.output import as_typed_here, prints_aside
from blocks_worker.concurrency import Deadline, ServiceThread
from blocks_worker.config import environment, state_dir
from blocks_worker.handlers.registry import find_registry, load_registry, search_places
from blocks_worker.observability.redact import one_line, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blocks_worker.config import WorkerConfig

#: Seconds that a look gets to be the only one.
_ALONE = 3.0
_FIRST = "mend the environment first, and look again with 'blocks doctor'"
_USUAL_CURE = "mend it there, and look again with 'blocks doctor'"


@click.command()
@click.option("--handler", metavar="NAME", help="Only this handler of the registry, or module:function.")
@click.option("--no-local", is_flag=True, help="As for blocks-run: the local hub is not to be used.")
@click.option(
    "--timeout",
    default=15.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds for all looks together; one that is not over then is a finding.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON list.")
def doctor(*, handler: str | None, no_local: bool, timeout: float, as_json: bool) -> None:
    """Say what is wrong on this machine, and what to do next. Nothing is changed.

    It looks at Python and libraries, variables, state folder, ports, handlers and cards, hub, clock, key and network.
    The exit code is 1 when anything is an error or a warning.
    """
    flags = Flags(handler=handler, log_level="error", log_format="text", no_local=no_local, check=True)
    with prints_aside():
        found = list(_findings(flags, timeout))
    if as_json:
        click.echo(json.dumps([{name: redact(text) for name, text in asdict(one).items()} for one in found], indent=2))
    else:
        for one in found:
            click.echo(f"{one.level}: {one_line(redact(as_typed_here(str(one))))}")
    if any(one.level != "note" for one in found):
        raise SystemExit(int(Exit.FAILED))


def _findings(flags: Flags, timeout: float) -> Iterator[Found]:
    """Yield what each check finds, in their order; nearly all run at the same time."""
    running = [_Check("python", machine, is_alone=True), _Check("environment", _variables)]
    try:
        config = configured(flags)
    except ERRORS as error:
        yield of_error("environment", error)
        running += _of_the_rest()
    else:
        running += _of_configuration(flags, config)
    deadline = Deadline(timeout)
    for check in sorted(running, key=lambda each: not each.is_alone):
        check.start()
        if check.is_alone:
            check.wait(min(_ALONE, timeout / 3))
    for check in running:
        yield from check.findings(deadline)


def _of_configuration(flags: Flags, config: WorkerConfig) -> list[_Check]:
    connection = config.connection
    return [
        _Check("state folder", lambda: state_folder(connection.state_dir)),
        _Check("ledger", lambda: kept(connection)),
        _Check("ports", lambda: ports(connection)),
        _Check("health port", lambda: health(config.health_port)),
        _Check("handler", lambda: findings_of_folder(flags, config), is_alone=True),
        _Check("hub", lambda: hub(config)),
    ]


def _of_the_rest() -> list[_Check]:
    """Return the looks that there are without a configuration, and what says of the others that they were not taken."""
    checks = [
        _Check(
            "not looked at",
            lambda: [Found("note", "not looked at", "handlers, ports, hub, clock, key, network", _FIRST)],
        )
    ]
    try:
        folder = state_dir()
    except ERRORS:
        return checks
    return [_Check("state folder", lambda: state_folder(folder)), *checks]


def _variables() -> Iterator[Found]:
    yield from dotenv()
    yield from variables(environment(), also=_needed_by_handlers())


def _needed_by_handlers() -> set[str]:
    """Return the variables that handlers of the registry ask for; a broken one is told elsewhere."""
    try:
        path = environment().get("BLOCKS_REGISTRY") or find_registry(search_places(Path.cwd()))
        entries = () if path is None else load_registry(path).entries
    except ERRORS:
        return set()
    return {name for entry in entries for name in entry.requires_env}


class _Check:
    """Run one check on a thread of its own, a daemon: a user's module that is imported may hang.

    `is_alone`: it changes or walks the module path, where nobody may look for a module meanwhile: a walk over a list
    from which something is taken skips an entry.
    """

    def __init__(self, name: str, act: Callable[[], Iterable[Found]], *, is_alone: bool = False) -> None:
        self.is_alone = is_alone
        self._name = name
        self._act = act
        self._found: list[Found] = []
        self._thread = ServiceThread(f"doctor-{name}", self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, timeout: float) -> None:
        """Wait for its end, at most so long."""
        self._thread.join(timeout)

    def findings(self, deadline: Deadline) -> list[Found]:
        """Return what was found until then."""
        if self._thread.join(deadline.remaining()):
            return self._found
        text = "this look was not over in time"
        cure = (
            "see what hangs: a module that does its work while it is imported, or a disk or host that does not answer"
        )
        return [*self._found, Found("error", self._name, text, cure)]

    def _run(self) -> None:
        try:
            for one in self._act():
                self._found.append(one if one.cure or one.level == "note" else replace(one, cure=_USUAL_CURE))
        except Exception as error:  # noqa: BLE001 - the top of a thread: what a check stumbles over is a finding
            self._found.append(of_error(self._name, error))
        except BaseException as error:  # noqa: BLE001 - as above: a user's module may raise whatever it likes
            text = f"this look was ended by a {type(error).__name__}"
            self._found.append(Found("error", self._name, text, "see which module raises it while it is imported"))
