"""Threads that work for one of several agents."""

from __future__ import annotations

import io
import json
import logging

from blocks_worker import whose
from blocks_worker.concurrency import ServiceThread
from blocks_worker.observability.logs import setup_logging, tell_agents_apart

ANN = {"agent": "ann", "instance": "AG-ann-1"}


def test_threads_work_for_whom_they_were_made() -> None:
    """A thread has the names of its maker, and so have those that it makes; another one does not."""
    seen: list[object] = []

    def look() -> None:
        seen.append(dict(whose.names()))
        inner = ServiceThread("inner", lambda: seen.append(dict(whose.names())))
        inner.start()
        inner.join(5)

    with whose.working_for(ANN):
        made = ServiceThread("made", look)
        with whose.working_for({}):
            free = ServiceThread("free", lambda: seen.append(dict(whose.names())))
    for thread in (made, free):
        thread.start()
        thread.join(5)

    assert seen == [ANN, ANN, {}]
    assert whose.names() == {}


class Terminal(io.StringIO):
    """Be a stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_lines_name_the_agent() -> None:
    """[R-61] JSON lines always, those on a terminal where there are several; the record's own fields win."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        lines, people = io.StringIO(), Terminal()
        for stream, fmt in ((lines, "json"), (people, "text")):
            setup_logging("info", fmt, stream)
            with whose.working_for(ANN):
                logging.getLogger("blocks_worker.x").info("one")
                logging.getLogger("blocks_worker.x").info("two", extra={"agent": "bob"})
            logging.getLogger("blocks_worker.x").info("three")
        tell_agents_apart()
        with whose.working_for(ANN):
            logging.getLogger("blocks_worker.x").info("four")
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
    told = [json.loads(line) for line in lines.getvalue().splitlines()]

    assert [one.get("agent") for one in told] == ["ann", "bob", None]
    assert [one.get("instance") for one in told] == ["AG-ann-1", "AG-ann-1", None]
    assert ["agent=ann" in line for line in people.getvalue().splitlines()] == [False, False, False, True]
