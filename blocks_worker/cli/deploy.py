"""`blocks deploy`: write what a service manager needs to run the agents of this folder."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blocks_worker.cli.access import errors_told
from blocks_worker.cli.check import targets_of_folder
from blocks_worker.cli.choosing import CARD_FILE, configured
from blocks_worker.cli.findings import findings_of_start
from blocks_worker.cli.flags import Flags
from blocks_worker.cli.output import prints_aside
from blocks_worker.cli.units import SETTINGS, WorkerUnit, checked_name, hub_unit, settings
from blocks_worker.config import DEFAULT_CDM_URL, environment
from blocks_worker.errors import ConfigurationError
from blocks_worker.handlers.registry import find_registry, load_registry, search_places

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocks_worker.config import WorkerConfig

_FILE = click.Path(dir_okay=False, path_type=Path)
_UNITS = "/etc/systemd/system"
_HOMES = ("/home/", "/root/", "/run/user/")
_TEMPORARY = ("/tmp/", "/var/tmp/")  # noqa: S108 - looked for, not used
#: Where systemd keeps the state of the hub's service.
_HUB_STATE = "/var/lib/blocks-hub"


@dataclass(frozen=True)
class _Written:
    """One file: its name, its text, its rights, where it belongs."""

    name: str
    text: str
    mode: int
    place: str


@click.command()
@click.option("--systemd", is_flag=True, required=True, help="Write units for systemd.")
@click.option("--handler", "handlers", metavar="NAME", multiple=True, help="Only this handler; again for more.")
@click.option("--registry", type=_FILE, help="The registry file.")
@click.option("--card", type=_FILE, help="The card file.")
@click.option("--name", help="Name of the service; the agent's, when this is left out.")
@click.option("--hub", "with_hub", is_flag=True, help="Write the unit of the hub too.")
@click.option("--user", help="Who runs it; one that systemd makes, when this is left out.")
@click.option(
    "--drain-timeout", default=60, show_default=True, type=click.IntRange(0, 86_400), help="As for blocks-run."
)
@click.option(
    "--out",
    default=Path("deploy"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to write to.",
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print files and commands as one JSON object.")
def deploy(  # noqa: PLR0913 - one argument an option
    *,
    systemd: bool,
    handlers: tuple[str, ...],
    registry: Path | None,
    card: Path | None,
    name: str | None,
    with_hub: bool,
    user: str | None,
    drain_timeout: int,
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write a unit and a file of settings for each agent of this folder, and print what to type next.

    Nothing is installed, and no secret is written.
    """
    del systemd  # there is no other kind yet
    flags = Flags(registry=registry, card=card, log_level="error", log_format="text", no_local=True, check=True)
    with errors_told():
        config = configured(flags)
        place = config.connection.cdm_url or DEFAULT_CDM_URL
        chosen = [replace(flags, handler=each) for each in handlers] or [flags]
        with prints_aside():
            units = list(_units(chosen, config, name, user, drain_timeout))
        files = [file for unit, needed in units for file in _files(unit, needed, place)]
        if with_hub:
            files.append(_Written("blocks-hub.service", hub_unit(str(_program("blocks-hub"))), 0o644, _UNITS))
        _write(out, files, force=force)
    commands = list(_commands(out, files))
    if as_json:
        click.echo(json.dumps({"files": [str(out / file.name) for file in files], "commands": commands}, indent=2))
        return
    for file in files:
        click.echo(f"wrote {out / file.name}")
    for unit, _ in units:
        if unit.sees_homes:
            click.echo(
                f"note: {unit.name} lies below a home, so it runs as {unit.user}; from /opt it gets its own user"
            )
    click.echo(f"next: set what {out}/*.env asks for, then type")
    for command in commands:
        click.echo(f"  {command}")


def _units(
    flags: Sequence[Flags], config: WorkerConfig, name: str | None, user: str | None, drain: int
) -> Iterator[tuple[WorkerUnit, Sequence[str]]]:
    """Yield the unit of each agent, with the variables that its handler needs.

    Raises:
        ConfigurationError: an agent cannot be served as it is.
    """
    targets = [target for each in flags for target in targets_of_folder(each, config, Path.cwd())]
    if name is not None and len(targets) > 1:
        raise ConfigurationError(f"--name names one service, and there are {len(targets)} agents; add --handler")
    if name is not None:
        checked_name(name)
    served: dict[str, str] = {}
    for target in targets:
        needed = _needed(target, config)
        # What is missing here is handed over there, a key too.
        found, plan = findings_of_start(target, config, env={**environment(), **dict.fromkeys(needed, "there")})
        wrong = [str(one) for one in found if one.level == "error" and one.where != "environment"]
        if plan is None:
            raise ConfigurationError(wrong[0] if wrong else "the agent cannot be served; 'blocks check' says why")
        said = target.handler or CARD_FILE
        if plan.agent_name in served:
            raise ConfigurationError(
                f"{served[plan.agent_name]} and {said} are both the agent {plan.agent_name!r}, whose files can be "
                "one's only; choose with --handler, or give one another agentName"
            )
        served[plan.agent_name] = said
        yield _unit(target, config, name or plan.agent_name, user, drain), needed


def _unit(target: Flags, config: WorkerConfig, name: str, user: str | None, drain: int) -> WorkerUnit:
    folder, program = Path.cwd(), _program("blocks-run")
    places = [str(path) for path in (folder, program)]
    in_home = any(place.startswith(_HOMES) for place in places)
    return WorkerUnit(
        name=name,
        command=[str(program), "--no-local", *_arguments(target, config, folder)],
        folder=folder,
        drain=drain,
        user=user or (_owner(folder) if in_home else None),
        sees_homes=in_home,
        sees_tmp=any(place.startswith(_TEMPORARY) for place in places),
    )


def _arguments(target: Flags, config: WorkerConfig, folder: Path) -> Iterator[str]:
    """Yield what chooses the agent, from whatever folder it is started."""
    registry = config.registry or find_registry(search_places(folder))
    if target.handler is None and (target.card is not None or (folder / CARD_FILE).is_file()):
        yield from ("--card", str((target.card or folder / CARD_FILE).absolute()))
        return
    yield from ("--handler", target.handler or "echo")
    if registry is not None:
        yield from ("--registry", str(registry.absolute()))
    if target.card is not None:
        yield from ("--card", str(target.card.absolute()))


def _needed(target: Flags, config: WorkerConfig) -> Sequence[str]:
    path = config.registry or find_registry(search_places(Path.cwd()))
    entries = () if path is None else load_registry(path).entries
    return next((entry.requires_env for entry in entries if entry.name == target.handler), ())


def _files(unit: WorkerUnit, needed: Sequence[str], place: str) -> Iterator[_Written]:
    yield _Written(f"blocks-worker-{unit.name}.service", unit.text(), 0o644, _UNITS)
    yield _Written(f"{unit.name}.env", settings(unit.name, place, needed), 0o600, SETTINGS)


def _write(out: Path, files: Sequence[_Written], *, force: bool) -> None:
    there = [str(out / file.name) for file in files if (out / file.name).exists()]
    if there and not force:
        raise ConfigurationError(f"{', '.join(there)} would be written over; choose another --out, or say --force")
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        path = out / file.name
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(file.text)


def _commands(out: Path, files: Sequence[_Written]) -> Iterator[str]:
    """Yield what installs and starts the services, in its order."""
    for file in files:
        source, place = shlex.quote(str(out / file.name)), f"{file.place}/{file.name}"
        yield f"sudo install -D -m {file.mode:o} {source} {place}"
    yield "sudo systemctl daemon-reload"
    make = f"{_program('blocks')} keys create"
    if any(file.name == "blocks-hub.service" for file in files):
        yield "sudo systemctl enable --now blocks-hub"
        make = f"sudo env BLOCKS_STATE_DIR={_HUB_STATE} {make}"
    for name in [file.name.removesuffix(".env") for file in files if file.name.endswith(".env")]:
        yield f"{make} {name}"
        yield f"sudo install -D -m 600 /dev/stdin {SETTINGS}/{name}.key  # paste that key, then Enter and Ctrl-D"
        yield f"sudo systemctl enable --now blocks-worker-{name}"


def _program(name: str) -> Path:
    """Return the program that stands beside this Python.

    Raises:
        ConfigurationError: there is none.
    """
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise ConfigurationError(f"{path} is missing; install blocks_worker into this environment ('pip install .')")
    return path


def _owner(folder: Path) -> str:
    number = folder.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
