"""What a script that configures no logging sees on standard error."""

from __future__ import annotations

import io
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from blocks_worker.observability.last_resort import LastResort

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def script() -> Iterator[io.StringIO]:
    """Be a program without logging of its own, and what it sees."""
    ours, root = logging.getLogger("blocks_worker"), logging.getLogger()
    before, above = list(ours.handlers), list(root.handlers)
    stream = io.StringIO()
    ours.handlers[:], root.handlers[:] = [LastResort(stream)], []
    try:
        yield stream
    finally:
        ours.handlers[:], root.handlers[:] = before, above


def fail(logger: str, key: str = "k") -> None:
    """Log an exception."""
    error = ValueError(f"bad {key}")
    logging.getLogger(logger).warning("callback_failed", extra={"callback": "onArtifact"}, exc_info=error)


def test_a_script_is_quiet() -> None:
    """What calls, waits and callbacks of a consumer tell as well is not written, nor is what is no warning."""
    with script() as written:
        logging.getLogger("blocks_worker.client.subscriptions").warning("client_poll_failed", extra={"tasks": 1})
        logging.getLogger("blocks_worker.controlplane.keeper").warning("token_refresh_failed")
        logging.getLogger("blocks_worker.transports.pubnub.reader").error("transport_failed")
        logging.getLogger("blocks_worker.worker.worker").info("registered")

    assert not written.getvalue()


def test_what_nobody_else_tells_is_written() -> None:
    """An exception of a callback comes with its traceback, a worker's warning with its fields; neither with secrets."""
    with script() as written:
        fail("blocks_worker.client.callbacks", "bk_0123456789abcdef0123456789abcdef")
        logging.getLogger("blocks_worker.runtime.card_notes").warning("card_warning", extra={"finding": "no version"})
    lines = written.getvalue().splitlines()

    assert lines[0].endswith("WARN  callback_failed callback=onArtifact")
    assert "  | ValueError: bad " in written.getvalue()
    assert "bk_0123456789" not in written.getvalue()
    assert lines[-1].endswith('WARN  card_warning finding="no version"')


@pytest.mark.parametrize("name", ["", "blocks_worker", "blocks_worker.client"])
def test_a_program_that_handles_records_is_left_alone(name: str) -> None:
    """Any handler above the record's logger is the program's own, one that drops all included."""
    own = logging.NullHandler()
    with script() as written:
        logging.getLogger(name).addHandler(own)
        fail("blocks_worker.client.callbacks")
        logging.getLogger(name).removeHandler(own)

    assert not written.getvalue()


def test_the_package_brings_it() -> None:
    """Whoever imports the package has it, once."""
    found = [handler for handler in logging.getLogger("blocks_worker").handlers if isinstance(handler, LastResort)]

    assert len(found) == 1
