"""One connection of a link: what breaks off before it was sent leaves nothing behind."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from blocks_worker.protocol.link import Ask, Leave
from blocks_worker.transports.hublink.connection import LinkDownError
from blocks_worker.transports.hublink.wire import TOKENS, Wire


class Broken:
    """Be a connection that is interrupted before it sends its first frame."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error
        self.sent: list[Any] = []

    def send(self, frame: bytes) -> None:
        """Take it."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        self.sent += json.loads(frame)

    def end(self) -> None:
        """Do nothing."""


def broken(error: BaseException | None = None) -> tuple[Wire, list[Any]]:
    """Return a wire, and what is sent over it."""
    connection = Broken(error)
    return Wire(connection), connection.sent  # type: ignore[arg-type]


def asking(path: str) -> Any:
    """Return what makes a question."""
    return lambda number, token: Ask(number, "GET", path, token, msgspec.Raw(b"null"))


def say(wire: Wire, how: str) -> None:
    """Say something with a token."""
    if how == "ask":
        wire.ask(asking("/first"), "tok")
    elif how == "tell":
        wire.tell(Leave, "tok")
    else:
        wire.pour([lambda _number, _token: b"[]"], "tok")


@pytest.mark.parametrize("how", ["ask", "tell", "pour"])
def test_a_token_that_was_not_sent_is_named_again(how: str) -> None:
    """Who is interrupted before the hub was told of it leaves no number that it does not know, and no question."""
    wire, sent = broken(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        say(wire, how)
    assert not wire._questions
    wire.ask(asking("/second"), "tok")

    token, ask = sent
    assert (token[0], token[2]) == ("token", "tok")
    assert ask[4] == token[1]


def test_what_cannot_be_written_names_no_token() -> None:
    """The next question under that token tells the hub of it."""
    wire, sent = broken()
    with pytest.raises(UnicodeEncodeError):
        wire.ask(asking("/\ud800"), "tok")
    assert not wire._questions
    wire.ask(asking("/second"), "tok")
    wire.ask(asking("/third"), "tok")

    assert [operation[0] for operation in sent] == ["token", "ask", "ask"]


def test_the_last_of_what_is_poured_leaves_no_question() -> None:
    """The token before it was told of, and stays."""
    wire, sent = broken()

    def unmade(_number: int, _token: int) -> bytes:
        raise ValueError("it cannot be made")

    with pytest.raises(ValueError, match="cannot be made"):
        wire.pour([unmade], "tok")
    assert not wire._questions
    wire.ask(asking("/second"), "tok")
    assert [operation[0] for operation in sent] == ["token", "ask"]


def test_tokens_are_bounded() -> None:
    """Those that were broken off count too."""
    wire, _ = broken(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        wire.tell(Leave, "first")
    for number in range(TOKENS - 1):
        wire.tell(Leave, f"tok-{number}")

    with pytest.raises(LinkDownError, match="too many tokens"):
        wire.tell(Leave, "last")
