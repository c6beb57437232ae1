import asyncio
import io
import json
import logging
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocks_worker.observability.floods import LINES
from blocks_worker.observability.logs import (
    FOREIGN,
    bind_task,
    name_process,
    setup_logging,
    task_logger,
    told_by_program,
)

CANARY = "canary-9f3c1"
_log = logging.getLogger("blocks_worker.some.file")


class Keeper(logging.Handler):
    """Keep the records as they come."""

    def __init__(self, seen: list[logging.LogRecord]) -> None:
        super().__init__()
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self._seen.append(record)


class Terminal(io.StringIO):
    """Be a stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def refuse(text: str) -> None:
    """Raise with this text."""
    raise ValueError(text)


def started(fmt: str, level: str = "debug", stream: io.StringIO | None = None) -> io.StringIO:
    """Set logging up and return what it is written to."""
    stream = stream or io.StringIO()
    logging.getLogger().handlers.clear()  # pytest's own would complain of bad arguments
    setup_logging(level, fmt, stream)
    return stream


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the JSON lines."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def speak() -> None:
    """Log a canary in every way there is."""
    _log.info("url https://h/v2?auth=%s&signature=%s", CANARY, CANARY)
    _log.info("answer %s", {"accessToken": CANARY, "headers": {"Authorization": f"Bearer {CANARY}"}})
    _log.info("field", extra={"token": CANARY, "detail": {"pamToken": CANARY}, "url": f"http://h?token={CANARY}"})
    _log.debug("key bk_%s", CANARY)
    _log.info("bad arguments bk_%s %d", f"bk_{CANARY}", "x")
    try:
        refuse(f"refused: Authorization: Bearer {CANARY}")
    except ValueError:
        _log.exception("failed", stack_info=True)
    for name in FOREIGN:
        logging.getLogger(name).debug("GET /v2?auth=%s", CANARY)
        logging.getLogger(name).warning("Retrying /v2?auth=%s", CANARY)


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_no_secret_is_written(fmt: str) -> None:
    """[G8] At DEBUG, in message, arguments, fields and traceback, in both formats: no canary."""
    stream = started(fmt)
    speak()

    assert CANARY not in stream.getvalue()
    assert "failed" in stream.getvalue()


def test_foreign_loggers_keep_secrets_from_other_handlers_too() -> None:
    """[G8] A handler of the user's own sees no secret of a foreign library either."""
    started("json")
    own = io.StringIO()
    handler = logging.StreamHandler(own)
    logging.getLogger().addHandler(handler)
    for name in FOREIGN:
        logging.getLogger(name).warning("Retrying /v2?auth=%s", CANARY)

    assert own.getvalue().count("Retrying") == len(FOREIGN)
    assert CANARY not in own.getvalue()


def test_foreign_loggers_tell_warnings_only() -> None:
    """[G8] What the libraries say below WARNING is not written at any level of ours."""
    stream = started("json")
    logging.getLogger("urllib3.connectionpool").debug("chatter")
    logging.getLogger("httpx").info("chatter")

    assert stream.getvalue() == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters()), fmt=st.sampled_from(["text", "json"]))
def test_one_record_is_one_line(name: str, fmt: str) -> None:
    """[H9, R-46] Whatever a name holds, a record is one line, and paints nothing."""
    stream = started(fmt)
    _log.info("file %s", name, extra={"file": name})

    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()
    assert fmt == "text" or len(records(stream)) == 1


@pytest.mark.parametrize("name", ["a\r\nb", "\x1b[2J", '","level":"error', "\u2028x", "\u202egnp.exe", "\ud800"])
@pytest.mark.parametrize("fmt", ["text", "json"])
def test_forged_lines_stay_inside_their_field(name: str, fmt: str) -> None:
    """[H9] Line ends, terminal commands and forged JSON change nothing but the one field."""
    stream = started(fmt)
    _log.info("named", extra={"file": name})

    assert len(stream.getvalue().splitlines()) == 1
    assert fmt == "text" or records(stream)[0]["level"] == "info"


def test_a_value_cannot_pass_for_another_field() -> None:
    """[H9] In text, a value with blanks or signs is quoted."""
    stream = started("text")
    _log.info("named", extra={"file": "a task=t9"})

    assert 'file="a task=t9"' in stream.getvalue()


def test_a_traceback_cannot_pass_for_a_record() -> None:
    """[H9] Each line of a traceback in text is marked."""
    stream = started("text")
    try:
        refuse("x\n2026-01-01T00:00:00Z INFO forged\x1b[2J")
    except ValueError:
        _log.exception("failed")
    lines = stream.getvalue().splitlines()

    assert all(line.startswith("  | ") for line in lines[1:])
    assert "\x1b" not in stream.getvalue()


def test_json_lines_have_their_fields() -> None:
    """[2.17] level, message, ts, event, agent, instance, task, and the record's own fields."""
    stream = started("json")
    name_process(agent="echo", instance="AG-1")
    with bind_task("t1"):
        _log.warning("task_finished", extra={"seconds": 0.5})
    record = records(stream)[0]

    assert record.pop("ts").endswith("Z")
    assert record == {
        "level": "warn",
        "message": "task_finished",
        "event": "task_finished",
        "agent": "echo",
        "instance": "AG-1",
        "task": "t1",
        "logger": "blocks_worker.some.file",
        "seconds": 0.5,
    }


def test_the_format_follows_the_stream() -> None:
    """[2.17] auto is text on a terminal and JSON elsewhere."""
    texts = []
    for stream in (Terminal(), io.StringIO()):
        _started = started("auto", stream=stream)
        _log.info("hello")
        texts.append(_started.getvalue().startswith("{"))

    assert texts == [False, True]


def test_the_level_can_be_changed() -> None:
    """[R-54] A second call changes level and stream, and leaves one handler."""
    first = started("json", "error")
    _log.warning("unheard")
    second = started("json", "info")
    _log.info("heard")
    _log.debug("unheard")

    assert (first.getvalue(), [record["message"] for record in records(second)]) == ("", ["heard"])


def test_a_task_is_bound_to_its_thread_only() -> None:
    """Each line of a run carries its task; another thread's does not."""
    stream = started("json")
    other = threading.Thread(target=lambda: _log.info("other"))
    with bind_task("t1"):
        logging.getLogger("users.own").info("inside")
        other.start()
        other.join()
        with bind_task("t2"):
            _log.info("nested")
        _log.info("again")
    _log.info("outside")

    assert [record.get("task") for record in records(stream)] == ["t1", None, "t2", "t1", None]


def test_a_task_is_bound_to_its_coroutine_only() -> None:
    """Two coroutines of one loop do not mix their tasks."""
    stream = started("json")

    async def run(task_id: str) -> None:
        with bind_task(task_id):
            await asyncio.sleep(0)
            _log.info("said", extra={"mine": task_id})

    async def both() -> None:
        await asyncio.gather(run("a"), run("b"))

    asyncio.run(both())

    assert all(record["task"] == record["mine"] for record in records(stream) if "mine" in record)


def test_a_tasks_logger_carries_its_id_anywhere() -> None:
    """The logger of a task names it on any thread, beside the caller's own fields."""
    stream = started("json")
    task_logger("t7").info("said", extra={"n": 1})

    assert [(record["task"], record["n"]) for record in records(stream)] == [("t7", 1)]


def test_a_record_stays_whole_for_others() -> None:
    """A user's own handler after ours still gets the exception and the arguments."""
    started("json")
    seen: list[logging.LogRecord] = []
    logging.getLogger().addHandler(Keeper(seen))
    try:
        refuse("x")
    except ValueError:
        _log.exception("failed %s", "here")

    assert (seen[0].args, seen[0].exc_info is not None) == (("here",), True)


def test_a_broken_stream_leaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """[G8] When a line cannot be written, logging dumps nothing on standard error."""
    stream = started("json")
    stream.close()
    _log.info("key bk_%s", CANARY)

    assert CANARY not in capsys.readouterr().err


def test_a_task_that_writes_without_end_is_bounded() -> None:
    """Its lines above the bound are left out, and the next says how many; no other task loses one. [C18]"""
    stream = started("json")
    users = logging.getLogger("of.a.user")
    with bind_task("loud"):
        for number in range(5 * LINES):
            users.info("line %d", number)
    for number in range(5 * LINES):
        task_logger("loud").info("more %d", number)
    task_logger("calm").info("one line")
    _log.info("task_ended", extra={"task": "loud"})

    written = records(stream)
    loud = [
        one for one in written if one.get("task") == "loud" and one["logger"] in {"of.a.user", "blocks_worker.task"}
    ]
    told = [one["lines"] for one in written if one["message"] == "log_lines_left_out"]
    assert [one["message"] for one in written if one.get("task") == "calm"] == ["one line"]
    assert LINES <= len(loud) < 10 * LINES
    assert len(loud) + sum(told) == 10 * LINES
    assert written[-1]["message"] == "task_ended"


def test_a_terminal_is_spared_what_its_reader_knows() -> None:
    """On a terminal agent and instance are not repeated, nor, the first time, what the program says itself."""
    lines = []
    for stream in (Terminal(), io.StringIO()):
        started("text", "info", stream)
        name_process(agent="echo", instance="AG-1")
        told_by_program("ready")
        for event in ("ready", "other", "ready"):
            _log.info(event)
        lines.append([line.split(" ", 1)[1].strip() for line in stream.getvalue().splitlines()])

    assert lines == [
        ["INFO  other", "INFO  ready"],
        [f"INFO  {event} agent=echo instance=AG-1" for event in ("ready", "other", "ready")],
    ]


def test_colours_are_for_terminals() -> None:
    """A level is painted where a person reads it and wants so; a pipe gets plain text."""
    logging.getLogger().handlers.clear()
    painted, plain, piped = Terminal(), Terminal(), io.StringIO()
    for stream, colour in ((painted, True), (plain, False), (piped, True)):
        setup_logging("info", "text", stream, colour=colour)
        _log.warning("word")

    assert "\x1b[33mWARN \x1b[0m word" in painted.getvalue()
    assert "\x1b" not in plain.getvalue() + piped.getvalue()
