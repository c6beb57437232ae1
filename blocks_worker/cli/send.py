"""`blocks send`: send one task, show how it goes on standard error, and its artifacts on standard output."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from blocks_worker.artifacts import BLOCKS_MAX_UPLOAD_BYTES, DownloadedArtifact
from blocks_worker.cli import completion
from blocks_worker.cli.access import errors_told, quick_hub
from blocks_worker.cli.display import Shown, outcome, print_artifacts, progress_shown, warning_of, why_ended
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import as_typed_here, end_with, end_without_output, output_told
from blocks_worker.cli.spans import span
from blocks_worker.cli.streamed import Streamed
from blocks_worker.client.client import TaskClient
from blocks_worker.client.parts import file_part, text_part
from blocks_worker.client.results import save_all
from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.errors import BlocksError, ConfigurationError, MessageTooLargeError
from blocks_worker.handlers.registry import built_in_registry
from blocks_worker.observability.redact import one_line
from blocks_worker.protocol.codec import MAX_BODY
from blocks_worker.protocol.streams import NO_STREAM
from blocks_worker.protocol.tasks import MAX_ATTEMPTS, MAX_PRIORITY

if TYPE_CHECKING:
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session import TaskSession
    from blocks_worker.protocol.events import ArtifactRef

#: Seconds for the hub to say why nobody is there.
_QUICK = 3.0
_COMPLETED = "completed"
#: Most characters of a text; what stands around it in a request has room beside it.
_MOST_TEXT = MAX_BODY - 16 * 1024
#: Bytes of a saved text up to which it is shown as well.
_MOST_SHOWN = 64 * 1024
_TEXTS = ("text/", "application/json")
_BYTES = "application/octet-stream"
#: Seconds after which it is looked again how a task stands that says nothing, and the least of them.
_LOOK = 0.5
_LEAST_LOOK = 0.01
#: Seconds that a hub has to take a task in: as many as the task has, but no more and no fewer than these.
_PATIENCE = 30.0
_LEAST_PATIENCE = 2.0


def _named_texts(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read each ``id=VALUE``."""
    pairs = [value.partition("=") for value in values]
    for value, (part_id, sign, _) in zip(values, pairs, strict=True):
        if not part_id or not sign:
            raise click.BadParameter(f"{value!r} is not id=VALUE", ctx, param)
    return [(part_id, text) for part_id, _, text in pairs]


@click.command()
@click.argument("agent", shell_complete=completion.agents)
@click.argument("text", required=False)
@click.option(
    "--part",
    "parts",
    metavar="ID=VALUE",
    multiple=True,
    callback=_named_texts,
    help="A text part with an id of its own.",
)
@click.option(
    "--file",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Send a file of up to 25 MiB, as the part 'file'; more of them as 'file-2', 'file-3'.",
)
@click.option("--stream", "streams", is_flag=True, help="Print what the task streams, as it comes, before its result.")
@click.option(
    "--retry",
    type=click.IntRange(1, MAX_ATTEMPTS),
    metavar="RUNS",
    help="Have the hub run a task whose handler fails again, at most RUNS times in all (maxAttempts).",
)
@click.option("--at-most-once", "once", is_flag=True, help="Never run it again once it was begun, whatever happens.")
@click.option(
    "--priority", type=click.IntRange(0, MAX_PRIORITY), help="0 to 9: a minute's head start a level.  [default: 5]"
)
@click.option("--delay", type=span, metavar="TIME", help="Have the task begin after that, such as 30m or 2h.")
@click.option("--queue-ttl", type=span, metavar="TIME", help="Give up when no worker has begun it by then.")
@click.option(
    "--progress-timeout", type=span, metavar="TIME", help="Fail it when its handler says nothing for so long."
)
@click.option("--deadline", type=span, metavar="TIME", help="End it then, whatever its state.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the outcome as one JSON object; of a stream, each piece as a line."
)
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Write the artifacts into this folder.")
@click.option("--billing-mode", type=click.Choice(["free", "paid"]), default="free", show_default=True)
def send(  # noqa: PLR0913 - a flag each
    *,
    agent: str,
    text: str | None,
    parts: list[tuple[str, str]],
    files: tuple[Path, ...],
    streams: bool,
    retry: int | None,
    once: bool,
    priority: int | None,
    delay: float | None,
    queue_ttl: float | None,
    progress_timeout: float | None,
    deadline: float | None,
    as_json: bool,
    timeout: float,
    save: Path | None,
    billing_mode: str,
) -> None:
    """Send TEXT to AGENT and wait for the result; "-" as TEXT is standard input.

    Ctrl-C asks the task to stop. When the wait is over before the task is, the task goes on. A --delay that is longer
    than the wait is not waited for.

    With --stream, a stream of bytes is printed as it is, of a stream of events each as a line: a text bare, the rest
    as JSON.
    """
    if sys.stdout is None:
        end_without_output(None, "nothing was sent; send the output somewhere, to /dev/null at least")
    wanted: dict[str, Any] = {"not_before": delay, "queue_ttl": queue_ttl, "stream": True if streams else None}
    wanted["progress_timeout"] = progress_timeout
    if once:
        wanted["delivery"] = "at_most_once"
    if priority is not None:
        wanted["priority"] = priority
    if deadline is not None:
        wanted["deadline"] = Clock().wall_ms() + int(deadline * 1000)
    if retry is not None:
        wanted["retry_policy"] = {"maxAttempts": retry}
    with errors_told():
        request = _parts(text, parts, files)
        patience = Deadline(max(_LEAST_PATIENCE, timeout))
        with (
            TaskClient.create(billing_mode, timeout=patience.within(_PATIENCE)) as client,
            _sent(
                client, agent, request, {**wanted, "timeout": max(_LEAST_LOOK, patience.within(_PATIENCE))}
            ) as session,
        ):
            if delay is not None and delay >= timeout:
                _tell_delay(session, delay, as_json=as_json)
                return
            shown = Streamed(session, as_json=as_json) if streams else None
            _tell_who_is_missing(session, agent)
            event = _waited(session, timeout, shown, as_json=as_json)
            saved = [] if save is None else save_all(_named(session.list_artifacts()), save, session)
            # What is saved may be larger than memory, and nothing is fetched twice.
            artifacts = _fetched(session) if save is None else _read_again(session, saved, all_of_them=as_json)
    with output_told(f"'blocks watch {event.task_id}' shows the task"):
        if as_json:
            # After lines of a stream it is a line as well.
            click.echo(json.dumps(outcome(event, artifacts), indent=None if streams else 2))
        else:
            print_artifacts(artifacts)
    for path in saved:
        click.echo(f"saved {one_line(str(path))}", err=True)
    if event.state != _COMPLETED:
        why = why_ended(event, session.list_events())
        cure = "; send it with --stream" if not streams and NO_STREAM in why else ""
        end_with(Exit.FAILED, f"task {event.task_id} {event.state}: {why}{cure}")


def _fetched(session: TaskSession) -> list[DownloadedArtifact]:
    return [session.download_artifact(ref) for ref in session.list_artifacts()]


def _read_again(session: TaskSession, saved: list[Path], *, all_of_them: bool) -> list[DownloadedArtifact]:
    """Return the artifacts as they were just saved, or of them what is a text that a person would read."""
    return [
        DownloadedArtifact(path.read_bytes(), ref.mime_type, ref.file_name)
        for ref, path in zip(session.list_artifacts(), saved, strict=True)
        if all_of_them or (ref.size <= _MOST_SHOWN and ref.mime_type.startswith(_TEXTS))
    ]


def _named(refs: list[ArtifactRef]) -> list[ArtifactRef]:
    """Give those without a name one whose extension tells what they are."""
    return [
        ref
        if ref.file_name
        else msgspec.structs.replace(ref, file_name=f"artifact-{index}{mimetypes.guess_extension(ref.mime_type) or ''}")
        for index, ref in enumerate(refs)
    ]


def _parts(text: str | None, named: list[tuple[str, str]], files: tuple[Path, ...]) -> list[Any]:
    said = _standard_input() if text == "-" else text
    texts = [] if said is None else [text_part(said)]
    ids = ["file" if number == 1 else f"file-{number}" for number in range(1, len(files) + 1)]
    return [
        *texts,
        *(text_part(value, part_id) for part_id, value in named),
        *(file_part(path, part_id=id_, content_type=_type_of(path)) for id_, path in zip(ids, files, strict=True)),
    ]


def _type_of(path: Path) -> str:
    """Return what the name says, which is all that is known; of something packed only that it is bytes."""
    kind, packed_by = mimetypes.guess_type(path.name)
    return kind if kind and not packed_by else _BYTES


def _standard_input() -> str:
    said = sys.stdin.read(_MOST_TEXT + 1)
    if len(said) > _MOST_TEXT:
        raise ConfigurationError(
            f"standard input is longer than a text may be, {_MOST_TEXT} bytes; put it into a file and send that with "
            f"--file, which takes {BLOCKS_MAX_UPLOAD_BYTES} bytes"
        )
    return said


def _sent(client: TaskClient, agent: str, request: list[Any], wanted: dict[str, Any]) -> TaskSession:
    try:
        return client.send_message(agent, request, **wanted)
    except MessageTooLargeError as error:
        raise ConfigurationError(
            f"the texts are {error.size} bytes as they travel, more than {error.limit}; put them into a file and send "
            f"that with --file, which takes {BLOCKS_MAX_UPLOAD_BYTES} bytes"
        ) from None


def _tell_who_is_missing(session: TaskSession, agent: str) -> None:
    if session.waits_for != "instance":
        return
    why, cure = _why_nobody(agent)
    follow = f"'blocks watch {session.task_id}'"
    text = f"{why}; the task {session.task_id} waits in the hub; {cure}, follow the task with {follow}"
    click.echo(as_typed_here(text), err=True)


def _why_nobody(agent: str) -> tuple[str, str]:
    """Return why no worker of the agent is there, and what to do about it."""
    with contextlib.suppress(BlocksError, OSError, ValueError), quick_hub(_QUICK) as hub:
        if hub.agent(agent).offline:
            return f"agent {agent!r} was taken offline", f"let it in again with 'blocks agents online {agent}'"
    # What a handler is called says its agent's name only of those that come with the package.
    if agent in {entry.name for entry in built_in_registry().entries}:
        return f"no worker of {agent!r} is running", f"start one with 'blocks-run --handler {agent}'"
    return f"no worker of {agent!r} is running", "start the one that serves it"


def _tell_delay(session: TaskSession, delay: float, *, as_json: bool) -> None:
    """Say that a task begins later than anybody waits here."""
    if as_json:
        click.echo(json.dumps({"taskId": session.task_id, "state": session.state}))
    else:
        follow = as_typed_here(f"'blocks watch {session.task_id}'")
        click.echo(f"task {session.task_id} begins in {delay:g} s; {follow} shows how it goes")


def _waited(session: TaskSession, timeout: float, shown: Streamed | None, *, as_json: bool) -> TaskEvent:
    """Wait for the end; of a task that goes on, a script gets the id and how it stands."""
    try:
        return _wait(session, timeout, shown)
    except TimeoutError:
        if as_json:
            stands = {"taskId": session.task_id, "state": session.state}
            waits = {} if session.waits_for is None else {"waitsFor": session.waits_for}
            click.echo(json.dumps({**stands, **waits}, indent=None if shown is not None else 2))
        raise


def _followed(session: TaskSession, timeout: float, show: Shown) -> TaskEvent:
    """Return the terminal event; show what comes before it, and what holds the task up once it had begun."""
    deadline = Deadline(timeout)
    has_begun = False
    for event in session.follow(max(_LEAST_LOOK, min(_LOOK, timeout))):
        if event is not None and event.type == "progress":
            has_begun = True
            show.progress(event)
        elif event is not None and event.type == "terminal":
            return event
        if has_begun:
            show.held_up(session.held_up())
        if deadline.expired():
            break
    raise session.not_over(timeout)


def _wait(session: TaskSession, timeout: float, shown: Streamed | None) -> TaskEvent:
    """Wait for the end and show what comes meanwhile; Ctrl-C asks the task to stop."""
    try:
        with progress_shown(f"task {session.task_id}", moves=shown is None) as show:
            event = _followed(session, timeout, show)
            if shown is not None:
                shown.finish()
                if shown.trouble is not None:
                    _end_unread(session, shown.trouble)
            return event
    except (RuntimeError, TimeoutError):  # a session that is closed tells nothing more, and so not of the end
        if shown is not None and shown.trouble is not None:
            _end_unread(session, shown.trouble)
        raise
    except KeyboardInterrupt:
        still_ran = session.cancel("interrupted at the command line")
        what = "was asked to stop" if still_ran else "was over already"
        end_with(
            Exit.INTERRUPTED, f"interrupted: task {session.task_id} {what}; 'blocks watch {session.task_id}' shows it"
        )
    finally:
        # Not from a callback: the last ones come with the end, and would be told after it.
        for event in session.list_events():
            warning = warning_of(event)
            if warning is not None:
                click.echo(warning, err=True)


def _end_unread(session: TaskSession, error: OSError) -> NoReturn:
    """End because nobody takes what the task streams: who cut a pipe waits for nothing more."""
    end_without_output(error, f"task {session.task_id} goes on, 'blocks watch {session.task_id}' shows it")
