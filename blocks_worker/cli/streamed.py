"""What the streams of a task bring, printed as it comes: text for people and pipes, or one JSON object a piece."""

from __future__ import annotations

import base64
import codecs
import json
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from blocks_worker.cli.output import printable
from blocks_worker.client.session_streams import DRAIN_WINDOW
from blocks_worker.concurrency import Deadline
from blocks_worker.errors import BlocksError
from blocks_worker.observability.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.client.session import TaskSession
    from blocks_worker.client.streams import StreamClient, StreamRef
    from blocks_worker.streams.trouble import StreamError

#: What is told of the network while nothing is lost by it.
_NO_TROUBLE = frozenset({"connected", "reconnected", "network_issues"})
#: Seconds beyond the time that open streams have after their task.
_BEYOND = 5.0


class Streamed:
    """Print each piece of each stream of one task; several streams take turns piece by piece.

    A session calls `show` on a thread for each stream; `finish` waits for them. Where it cannot print any more it
    closes the session, which wakes who waits for it.
    """

    def __init__(self, session: TaskSession, *, as_json: bool) -> None:
        #: Why nothing more can be printed.
        self.trouble: OSError | None = None
        self._session = session
        self._as_json = as_json
        self._is_watched = sys.stdout.isatty()
        self._lock = threading.Lock()
        self._ended: dict[str, threading.Event] = {}
        session.on_stream(self.show)

    def show(self, ref: StreamRef) -> None:
        """Print a stream to its end; one that only takes is left alone."""
        if ref.descriptor.local_direction == "outbound":
            return
        try:
            self._read(ref, ref.open())
        except (BlocksError, RuntimeError) as error:
            self._warn(ref, str(error))
        finally:
            self._end_of(ref).set()

    def finish(self) -> None:
        """Return once the streams of a task that is over are printed; say so when there was none."""
        deadline = Deadline(DRAIN_WINDOW + _BEYOND)
        refs = [ref for ref in self._session.list_streams() if ref.descriptor.local_direction != "outbound"]
        for ref in refs:
            self._end_of(ref).wait(deadline.remaining())
        if not refs:
            said = "the task had no stream to read; its handler opens one with ctx.create_stream"
            click.echo(f"warning: {said}", err=True)

    def _read(self, ref: StreamRef, stream: StreamClient) -> None:
        stream.on_error(lambda error: self._trouble(ref, error))
        if not stream.is_bytes:
            for event in stream.events():
                self._print_event(ref, event)
            return
        # A character may come in two pieces.
        decoder, text = codecs.getincrementaldecoder("utf-8")(errors="replace"), "\n"
        for piece in stream.bytes():
            said = decoder.decode(piece)
            self._print_bytes(ref, piece, said)
            text = said or text
        if self._is_watched and not self._as_json and not text.endswith("\n"):
            self._print("")

    def _print_event(self, ref: StreamRef, event: Any) -> None:
        if self._as_json:
            self._print_object(ref, {"event": event})
        elif isinstance(event, str):
            self._print(printable(event) if self._is_watched else event)
        else:
            self._print(json.dumps(event, default=_text_of, ensure_ascii=self._is_watched))

    def _print_bytes(self, ref: StreamRef, piece: bytes, text: str) -> None:
        if self._as_json:
            self._print_object(ref, _content(piece))
        elif self._is_watched:
            self._print("\n".join(one_line(line) for line in text.split("\n")), end="")
        else:
            self._write(partial(_write_bytes, piece))

    def _print_object(self, ref: StreamRef, content: dict[str, Any]) -> None:
        self._print(json.dumps({"stream": _name(ref), **content}, default=_text_of))

    def _print(self, text: str, end: str = "\n") -> None:
        self._write(partial(click.echo, text + end, nl=False))

    def _write(self, act: Callable[[], object]) -> None:
        with self._lock:
            if self.trouble is not None:
                return
            try:
                act()
            except OSError as error:
                self.trouble = error
        if self.trouble is not None:
            self._session.close()

    def _trouble(self, ref: StreamRef, error: StreamError) -> None:
        if error.category not in _NO_TROUBLE:
            self._warn(ref, error.error)

    def _warn(self, ref: StreamRef, text: str) -> None:
        click.echo(one_line(f"warning: stream {_name(ref)}: {text}"), err=True)

    def _end_of(self, ref: StreamRef) -> threading.Event:
        with self._lock:
            return self._ended.setdefault(ref.descriptor.stream_id, threading.Event())


def _write_bytes(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _name(ref: StreamRef) -> str:
    return ref.descriptor.declared_stream or ref.descriptor.stream_id


def _content(piece: bytes) -> dict[str, str]:
    try:
        return {"text": piece.decode("utf-8")}
    except UnicodeDecodeError:
        return {"data": base64.b64encode(piece).decode()}


def _text_of(value: object) -> str:
    """Return what is no JSON, which is bytes inside an event, as base64."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
