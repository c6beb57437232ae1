"""`blocks check`: card, registry, handlers, environment and hub, looked at and left as they are."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blocks_worker.cli.checks.hub import elsewhere, no_hub
from blocks_worker.cli.checks.variables import dotenv
from blocks_worker.cli.choosing import CARD_FILE, configured
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.findings import ERRORS, Found, findings_of_start, of_error, placed
from blocks_worker.cli.flags import Flags
from blocks_worker.cli.output import counted, prints_aside
from blocks_worker.config import bypass_proxy_on_loopback
from blocks_worker.controlplane.cdm import fetch_cdm_config
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.whereabouts import CDM_PATH
from blocks_worker.errors import BlocksError, HubUnavailableError
from blocks_worker.handlers.registry import PYTHON, built_in_registry, find_registry, load_registry, search_places
from blocks_worker.observability.redact import one_line, without_password
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.config import WorkerConfig

#: Seconds for one answer of the hub.
_TIMEOUT = 5.0
_OK = 200
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--handler", metavar="NAME", help="Only this handler of the registry, or module:function.")
@click.option("--registry", type=_FILE, help="The registry file.")
@click.option("--card", type=_FILE, help="The card file.")
@click.option("--no-local", is_flag=True, help="As for blocks-run: the local hub is not to be used.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON list.")
def check(*, handler: str | None, registry: Path | None, card: Path | None, no_local: bool, as_json: bool) -> None:
    """Check what blocks-run would serve from this folder, and whether its hub answers. Nothing is changed.

    Warnings count as errors here: the exit code is 1 when there is any of the two.
    """
    flags = Flags(
        handler=handler,
        registry=registry,
        card=card,
        concurrency=None,
        instance_id=None,
        drain_timeout=None,
        log_level="error",
        log_format="text",
        health_port=None,
        no_local=no_local,
        check=True,
    )
    with prints_aside():
        found = list(_findings(flags))
    if as_json:
        click.echo(without_password(json.dumps([asdict(finding) for finding in found], indent=2)))
    else:
        for finding in found:
            click.echo(f"{finding.level}: {one_line(without_password(str(finding)))}")
    if any(finding.level != "note" for finding in found):
        raise SystemExit(int(Exit.FAILED))


def _findings(flags: Flags) -> Iterator[Found]:
    try:
        yield from dotenv()
        config = configured(flags)
    except ERRORS as error:
        yield of_error("environment", error)
        return
    yield from findings_of_folder(flags, config)
    yield from _hub(config)


def findings_of_folder(flags: Flags, config: WorkerConfig) -> Iterator[Found]:
    """Yield what a start of each handler that is to be served from here would find; no network is used."""
    try:
        targets = list(targets_of_folder(flags, config, Path.cwd()))
    except ERRORS as error:
        yield of_error("registry", error)
        targets = []
    told: set[Found] = set()
    for target in targets:
        found, planned = findings_of_start(target, config)
        for finding in found:
            one = placed(finding, target) if target.handler else finding
            if one not in told:
                told.add(one)
                yield one
        if planned is not None:
            yield Found(
                "note", "agent", f"{planned.agent_name}: {counted(planned.concurrency, 'slot')}, handler can be called"
            )


def targets_of_folder(flags: Flags, config: WorkerConfig, folder: Path) -> Iterator[Flags]:
    """Yield what there is to start from here: one handler that was named, else the card and each of the registry."""
    if flags.handler is not None:
        yield flags
        return
    has_card = flags.card is not None or (folder / CARD_FILE).is_file()
    if has_card:
        yield flags
    path = config.registry or find_registry(search_places(folder))
    names = [] if path is None or (flags.card is not None and flags.registry is None) else _own_handlers(path)
    yield from (replace(flags, handler=name, card=None) for name in names)
    if not has_card and not names:
        yield flags


def _own_handlers(path: Path) -> list[str]:
    """Return the names of the handlers that the file defines itself."""
    built_in = {entry.name for entry in built_in_registry().entries}
    entries = load_registry(path).entries
    return [entry.name for entry in entries if entry.runtime == PYTHON and entry.name not in built_in]


def _hub(config: WorkerConfig) -> Iterator[Found]:
    """Say whether the hub answers; one that a start would bring up itself need not."""
    bypass_proxy_on_loopback()
    connection = config.connection
    starts_own = config.embedded_hub and connection.is_local
    url = connection.cdm_url
    if url is None:
        local = StateFolder(connection.state_dir).discovered()
        if local is None:
            yield no_hub("no local hub runs", starts_own=starts_own)
            return
        url = f"{local.url}{CDM_PATH}"
    try:
        hub_url = fetch_cdm_config(url, timeout=_TIMEOUT).hub_url
        yield _answer(hub_url)
    except HubUnavailableError as error:
        text = f"no hub answers at {error.url} ({error.why})"
        yield elsewhere(connection) or no_hub(text, starts_own=starts_own)
    except (BlocksError, ValueError) as error:
        yield of_error("hub", error)


def _answer(hub_url: str) -> Found:
    http = Http(hub_url, timeout=_TIMEOUT)
    try:
        status = http.call("GET", "/livez").status
    finally:
        http.close()
    if status == _OK:
        return Found("note", "hub", f"{hub_url} answers")
    cure = "check BLOCKS_CDM_URL, and what stands before the hub"
    return Found("error", "hub", f"{hub_url} answers with status {status}", cure)
