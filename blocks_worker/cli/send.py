"""`blocks send`: send one task, show how it goes on standard error, and its artifacts on standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blocks_worker.artifacts import DownloadedArtifact
from blocks_worker.cli.access import errors_told
from blocks_worker.cli.display import outcome, print_artifacts, progress_shown
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import end_with
from blocks_worker.client.client import TaskClient
from blocks_worker.client.parts import file_part, text_part
from blocks_worker.observability.redact import one_line

if TYPE_CHECKING:
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session import TaskSession

_COMPLETED = "completed"


def _named_texts(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read each ``id=VALUE``."""
    pairs = [value.partition("=") for value in values]
    for value, (part_id, sign, _) in zip(values, pairs, strict=True):
        if not part_id or not sign:
            raise click.BadParameter(f"{value!r} is not id=VALUE", ctx, param)
    return [(part_id, text) for part_id, _, text in pairs]


@click.command()
@click.argument("agent")
@click.argument("text", required=False)
@click.option(
    "--part",
    "parts",
    metavar="ID=VALUE",
    multiple=True,
    callback=_named_texts,
    help="A text part with an id of its own.",
)
@click.option("--file", "files", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Write the artifacts into this folder.")
@click.option("--billing-mode", type=click.Choice(["free", "paid"]), default="free", show_default=True)
def send(
    *,
    agent: str,
    text: str | None,
    parts: list[tuple[str, str]],
    files: tuple[Path, ...],
    as_json: bool,
    timeout: float,
    save: Path | None,
    billing_mode: str,
) -> None:
    """Send TEXT to AGENT and wait for the result; "-" as TEXT is standard input."""
    with errors_told():
        request = _parts(text, parts, files)
        with TaskClient.create(billing_mode) as client, client.send_message(agent, request) as session:
            event = _wait(session, timeout)
            saved = [] if save is None else session.save_artifacts(save)
            # What is saved and not shown may be larger than memory, and nothing is fetched twice.
            artifacts = _fetched(session) if save is None else _read_again(session, saved) if as_json else []
    if as_json:
        click.echo(json.dumps(outcome(event, artifacts), indent=2))
    else:
        print_artifacts(artifacts)
    for path in saved:
        click.echo(f"saved {one_line(str(path))}", err=True)
    if event.state != _COMPLETED:
        end_with(Exit.FAILED, f"task {event.task_id} {event.state}: {event.error or event.reason or 'no reason given'}")


def _fetched(session: TaskSession) -> list[DownloadedArtifact]:
    return [session.download_artifact(ref) for ref in session.list_artifacts()]


def _read_again(session: TaskSession, saved: list[Path]) -> list[DownloadedArtifact]:
    """Return the artifacts as they were just saved."""
    return [
        DownloadedArtifact(path.read_bytes(), ref.mime_type, ref.file_name)
        for ref, path in zip(session.list_artifacts(), saved, strict=True)
    ]


def _parts(text: str | None, named: list[tuple[str, str]], files: tuple[Path, ...]) -> list[Any]:
    said = sys.stdin.read() if text == "-" else text
    texts = [] if said is None else [text_part(said)]
    ids = ["file" if number == 1 else f"file-{number}" for number in range(1, len(files) + 1)]
    return [
        *texts,
        *(text_part(value, part_id) for part_id, value in named),
        *(file_part(path, part_id=part_id) for part_id, path in zip(ids, files, strict=True)),
    ]


def _wait(session: TaskSession, timeout: float) -> TaskEvent:
    """Wait for the end and show what comes meanwhile; Ctrl-C asks the task to stop."""
    try:
        with progress_shown(f"task {session.task_id}") as show:
            session.on_progress(show)
            return session.wait_for_terminal(timeout)
    except KeyboardInterrupt:
        session.cancel("interrupted at the command line")
        raise
