"""What a command shows of a task: how it goes on standard error, what it brought on standard output."""

from __future__ import annotations

import base64
import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from blocks_worker.cli.output import printable
from blocks_worker.errors import ended_because
from blocks_worker.observability.redact import one_line
from blocks_worker.protocol.lifecycle import QUEUED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from rich.status import Status

    from blocks_worker.artifacts import DownloadedArtifact
    from blocks_worker.client.events import TaskEvent


class Shown:
    """Show how a task goes: its progress, or why it does not get on; `moves`: each in the place of the one before.

    Inside of `still` nothing moves, so that a person can be asked.
    """

    def __init__(
        self,
        progress: Callable[[TaskEvent], None],
        say: Callable[[str], None],
        *,
        moves: bool,
        still: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.still = still
        self._progress = progress
        self._say = say
        self._moves = moves
        self._last: TaskEvent | None = None
        self._held_up: str | None = None

    def progress(self, event: TaskEvent) -> None:
        """Show a progress event."""
        self._last, self._held_up = event, None
        self._progress(event)

    def held_up(self, why: str | None) -> None:
        """Show why the task does not get on, once; None: it does again, as it was."""
        if why == self._held_up:
            return
        self._held_up = why
        if why is not None:
            self._say(why)
        elif not self._moves:
            self._say("goes on")
        elif self._last is not None:
            self._progress(self._last)


@contextlib.contextmanager
def progress_shown(title: str, *, moves: bool = True) -> Iterator[Shown]:
    """Yield what shows how a task goes: a moving line on a terminal, plain lines elsewhere and where it is not to."""
    if not moves or not sys.stderr.isatty():
        yield Shown(
            lambda event: click.echo(said(event), err=True) if event.message else None,
            lambda why: click.echo(one_line(f"{title}: {why}"), err=True),
            moves=False,
        )
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(title) as status:
        yield Shown(
            lambda event: status.update(escape(f"{title}: {said(event)}")),
            lambda why: status.update(escape(one_line(f"{title}: {why}"))),
            moves=True,
            still=lambda: _still(status),
        )


@contextlib.contextmanager
def _still(status: Status) -> Iterator[None]:
    """Take the moving line away inside the block."""
    status.stop()
    try:
        yield
    finally:
        status.start()


def said(event: TaskEvent) -> str:
    """Return what a progress event says, in one line."""
    done = f"{event.progress:.0%}" if event.progress else ""
    return one_line(" ".join(word for word in (done, event.message or event.state or "") if word))


def warning_of(event: TaskEvent) -> str | None:
    """Return the line of an event that warns, of a result that was left out for instance; None for any other."""
    if event.type != "system" or event.status != "warning":
        return None
    return one_line(f"warning: {event.message or 'no more was said'}")


def why_ended(event: TaskEvent, before: Sequence[TaskEvent]) -> str:
    """Return why a task did not complete, with what the events before say: why it was to stop, how many runs failed."""
    why = ended_because(event) or "no reason given"
    if event.state == "canceled":
        asked = next((one.reason for one in before if one.type == "cancel_requested"), None)
        return why if asked is None or asked == why else f"{why} (asked to stop: {asked})"
    failed = sum(one.type == "system" and one.status == QUEUED for one in before)
    return f"{why} (after {failed + 1} runs)" if failed else why


def print_artifacts(artifacts: list[DownloadedArtifact]) -> None:
    """Print what is text; other bytes only where no person would read them."""
    for number, artifact in enumerate(artifacts, 1):
        text = _text(artifact)
        if text is not None:
            click.echo(printable(text) if sys.stdout.isatty() else text)
        elif sys.stdout.isatty():
            click.echo(
                f"artifact {number} is {one_line(artifact.mime_type)}, {len(artifact.data)} bytes: use --save DIR",
                err=True,
            )
        else:
            sys.stdout.buffer.write(artifact.data)


def _text(artifact: DownloadedArtifact) -> str | None:
    try:
        text = artifact.data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def outcome(event: TaskEvent, artifacts: list[DownloadedArtifact]) -> dict[str, Any]:
    """Return how a task ended and what it brought, for JSON."""
    found = {
        "taskId": event.task_id,
        "state": event.state,
        "error": event.error,
        "errorCode": event.error_code,
        "reason": event.reason,
        "completionReason": event.completion_reason,
        "artifacts": [_described(artifact) for artifact in artifacts],
    }
    return {key: value for key, value in found.items() if value is not None}


def _described(artifact: DownloadedArtifact) -> dict[str, Any]:
    text = _text(artifact)
    content = {"data": base64.b64encode(artifact.data).decode()} if text is None else {"text": text}
    return {"fileName": artifact.file_name, "mimeType": artifact.mime_type, "size": len(artifact.data), **content}


def event_line(event: TaskEvent) -> str:
    """Return one event of any type in one line."""
    ref = event.artifact_ref
    if ref is not None:
        text = f"{ref.file_name or '(no name)'} {ref.mime_type} {ref.size} bytes"
    elif event.type == "progress":
        text = said(event)
    elif event.type == "question":
        text = f"{event.id}: {event.text}"
    else:
        told = (event.state, event.status, event.id, event.message, ended_because(event) or event.completion_reason)
        text = " ".join(word for word in told if word)
    return one_line(f"{event.type} {text}".rstrip())
