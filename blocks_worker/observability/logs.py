"""Logging: one record, one line, as text or JSON, with the task it belongs to and without secrets.

The library only writes to loggers below ``blocks_worker``; `setup_logging` is for programs. It puts one
handler on the root logger, so a user's own loggers come out the same way.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import re
import sys
from collections import Counter
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO

from pythonjsonlogger.msgspec import MsgspecFormatter

from blocks_worker import whose
from blocks_worker.observability.floods import FloodGate
from blocks_worker.observability.redact import clean, clean_value, one_line, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    #: Generic for type checkers; not so at run time before Python 3.11.
    _Adapter = logging.LoggerAdapter[logging.Logger]
    _Handler = logging.StreamHandler[TextIO]
else:
    _Adapter = logging.LoggerAdapter
    _Handler = logging.StreamHandler

LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
#: Characters of a traceback, its end: the line that raised stands there.
MAX_TRACEBACK = 8192
#: Foreign loggers that tell addresses and headers below WARNING. Filters do not reach a logger's
#: children, so the ones that speak are named too.
FOREIGN = (
    "pubnub",
    "httpx",
    "httpcore",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "h2",
    "hpack",
    "urllib3",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.util.retry",
    "alembic",
)

#: How a terminal paints levels, and what stands in the way least.
_PAINT = {
    logging.DEBUG: "\x1b[36m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31m",
}
_LEVELS = {"INFO": "info", "WARNING": "warn", "CRITICAL": "error"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"

#: Our loggers, and the one among them by which handlers speak.
_OURS, _OF_TASKS = "blocks_worker", "blocks_worker.task"
_task: contextvars.ContextVar[str | None] = contextvars.ContextVar("blocks_worker_task", default=None)
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BOUND = ("agent", "instance", "task")
_TOLD = _USUAL | {*_BOUND, "event"}
_EVENT = re.compile(r"[a-z][a-z0-9_]*\Z")


def setup_logging(
    level: str = "info", fmt: str = "auto", stream: TextIO | None = None, *, colour: bool = False
) -> None:
    """Send all logging to the stream (standard error), one line a record.

    A second call replaces the first one's handler.

    Args:
        level: ``error``, ``warn``, ``info`` or ``debug``.
        fmt: ``text``, ``json``, or ``auto``: text on a terminal, JSON elsewhere.
        stream: where to write.
        colour: paint text, where it goes to a terminal.
    """
    stream = sys.stderr if stream is None else stream
    as_text = fmt == "text" or (fmt == "auto" and stream.isatty())
    for_people = as_text and stream.isatty()
    lines = _TextLines(colour=colour and for_people) if as_text else _JsonLines()
    handler = _Lines(stream, lines, for_people=for_people)
    root = logging.getLogger()
    for earlier in _ours(root):
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    for name in FOREIGN:
        quieten(name, LEVELS[level])


def quieten(name: str, level: int = logging.WARNING) -> None:
    """Let a foreign logger tell warnings and worse only, and no secrets."""
    logger = logging.getLogger(name)
    logger.setLevel(max(level, logging.WARNING))
    if not any(isinstance(known, RedactingFilter) for known in logger.filters):
        logger.addFilter(RedactingFilter())


def name_process(*, agent: str, instance: str) -> None:
    """Put the names of agent and instance on every line from now on; not on a terminal, whose reader knows them."""
    for handler in _ours(logging.getLogger()):
        if not handler.for_people:
            handler.names = {"agent": agent, "instance": instance}


def tell_agents_apart() -> None:
    """Put the names of agent and instance on the lines of each on a terminal too: this process has several."""
    for handler in _ours(logging.getLogger()):
        handler.tells_agents_apart = True


def told_by_program(*events: str) -> None:
    """Leave out the next record of each of these events on a terminal: the program says it there in its own words.

    Called again, one more of each is left out.
    """
    for handler in _ours(logging.getLogger()):
        if handler.for_people:
            handler.left_out.update(events)


def recorded(text: str, stream: TextIO) -> bool:
    """Write what a program says as a record, where JSON lines go to the same file as `stream`; tell whether it did.

    A plain line between them would be none of their reader's.
    """
    for handler in _ours(logging.getLogger()):
        if isinstance(handler.formatter, _JsonLines) and _is_same_file(handler.stream, stream):
            handler.handle(logging.LogRecord("blocks_worker.program", logging.INFO, "", 0, text, None, None))
            return True
    return False


@contextlib.contextmanager
def bind_task(task_id: str) -> Iterator[None]:
    """Put the task's id on every line that this thread or coroutine writes inside the block."""
    token = _task.set(task_id)
    try:
        yield
    finally:
        _task.reset(token)


class TaskLogger(_Adapter):
    """Be a logger whose every line carries the id of one task."""

    def __init__(self, task_id: str, logger: logging.Logger | None = None) -> None:
        super().__init__(logger or logging.getLogger(_OF_TASKS), {"task": task_id})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the task to the caller's own fields."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


def task_logger(task_id: str) -> TaskLogger:
    """Return the logger of one task, for code that may run on any thread."""
    return TaskLogger(task_id)


class RedactingFilter(logging.Filter):
    """Clean the records of a foreign logger in place, so that no handler, whoever's it is, writes a secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the record and let it pass."""
        _clean(record)
        return True


class _Lines(_Handler):
    """Be the one handler of a program; it knows the names of agent and instance.

    `for_people`: it writes text to a terminal.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter, *, for_people: bool = False) -> None:
        super().__init__(stream)
        self.names: dict[str, str] = {}
        self.for_people = for_people
        self.tells_agents_apart = False
        #: How many of the next records of an event are not written.
        self.left_out: Counter[str] = Counter()
        self._floods = FloodGate()
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless the program has said the same; the lock of the handler is held."""
        if isinstance(record.msg, str) and self.left_out[record.msg] > 0:
            self.left_out[record.msg] -= 1
            return
        task = getattr(record, "task", None) or _task.get()
        if task is None or self._admits(str(task), record):
            super().emit(record)

    def _admits(self, task: str, record: logging.LogRecord) -> bool:
        """Tell whether a line of a task is written. What we say of it always is, and says what was left out."""
        is_ours = record.name.partition(".")[0] == _OURS and record.name != _OF_TASKS
        if not is_ours and not self._floods.passes(task, record.created):
            return False
        dropped = self._floods.left_out(task)
        if dropped:
            said = logging.LogRecord("blocks_worker.logs", logging.WARNING, "", 0, "log_lines_left_out", None, None)
            vars(said).update(task=task, lines=dropped, created=record.created)
            super().emit(said)
        return True

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; the record itself is left as it is, for the user's own handlers."""
        names = {**self.names, **({} if self.for_people and not self.tells_agents_apart else whose.names())}
        return super().format(_completed(record, names))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Drop a line that cannot be written: the usual dump of it would hold the secrets that were blanked."""


class _JsonLines(MsgspecFormatter):
    """Write a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, in the order in which people read it."""
        said = {"ts": _moment(record), "level": _level(record), "message": record.getMessage(), "event": _event(record)}
        line = {**said, **_bound(record), "logger": record.name, **_fields(record)}
        if record.exc_text:
            line["exception"] = record.exc_text
        return self.jsonify_log_record(line)


class _TextLines(logging.Formatter):
    """Write a record as one line for people; a traceback follows, marked, so that it looks like no record."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        pairs = {**_fields(record), **_bound(record)}
        told = "".join(f" {name}={_quoted(value)}" for name, value in pairs.items())
        level, moment = f"{_level(record).upper():5}", _moment(record)
        if self._colour:
            level, moment = f"{_PAINT.get(record.levelno, '')}{level}{_PLAIN}", f"{_DIM}{moment}{_PLAIN}"
        line = f"{moment} {level} {record.getMessage()}{told}"
        trace = (record.exc_text or "").splitlines()
        return "\n".join([line, *(f"  | {one_line(part)}" for part in trace)])


def readable(record: logging.LogRecord) -> str:
    """Return a record as a line for people, without secrets; the record itself is left as it is."""
    return _TextLines().format(_completed(record, {}))


def _completed(record: logging.LogRecord, names: Mapping[str, str]) -> logging.LogRecord:
    """Return a copy with what is known besides, and without secrets."""
    known, record = record, logging.LogRecord.__new__(type(record))
    vars(record).update(vars(known))
    for name, value in {**names, "task": _task.get()}.items():
        if getattr(record, name, None) is None:
            setattr(record, name, value)
    _clean(record)
    return record


def _quoted(value: object) -> str:
    """Return a value such that it cannot pass for another field."""
    text = str(value)
    return f'"{text}"' if " " in text or "=" in text else text


def _is_same_file(one: TextIO, other: TextIO) -> bool:
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError, AttributeError):  # no file of the system behind it
        return False


def _ours(root: logging.Logger) -> list[_Lines]:
    return [handler for handler in root.handlers if isinstance(handler, _Lines)]


def _clean(record: logging.LogRecord) -> None:
    """Blank the secrets in message, arguments, fields and exception, and keep each on its line."""
    record.msg, record.args = clean(_message(record)), None
    for name in set(vars(record)) - _USUAL:
        setattr(record, name, clean_value(name, getattr(record, name)))
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    if record.exc_text:
        record.exc_text = redact(record.exc_text)[-MAX_TRACEBACK:]
    record.exc_info = None


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a caller's bad arguments must not end in a raw dump on stderr
        return f"{record.msg} (with arguments that do not fit)"


def _moment(record: logging.LogRecord) -> str:
    second, part = divmod(record.created, 1)
    return f"{_second(int(second))}.{int(part * 1000):03}Z"


@lru_cache(maxsize=16)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def _level(record: logging.LogRecord) -> str:
    return _LEVELS.get(record.levelname) or record.levelname.lower()


def _event(record: logging.LogRecord) -> str | None:
    """Return the fixed word of the record: the field ``event``, or the message when it is one word."""
    message = record.getMessage()
    return getattr(record, "event", None) or (message if _EVENT.match(message) else None)


def _bound(record: logging.LogRecord) -> dict[str, Any]:
    values = {name: getattr(record, name, None) for name in _BOUND}
    return {name: value for name, value in values.items() if value is not None}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _TOLD}
