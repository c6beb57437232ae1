"""One connection of a link, with what belongs to it: the numbers of its tokens and of its open questions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from blocks_worker.protocol.link import Answer, Token
from blocks_worker.transports.hublink.connection import LinkConnection, LinkDownError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.protocol.link import ToHub

#: Tokens that one connection names; a process that has more goes on over a new one.
TOKENS = 1000


class Question:
    """Be one call that waits for its answer."""

    __slots__ = ("answer", "done")

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.answer: Answer | None = None

    def settle(self, answer: Answer | None) -> None:
        """Take the answer, None when there will be none, and wake who waits."""
        self.answer = answer
        self.done.release()


class Wire:
    """Be one connection."""

    def __init__(self, connection: LinkConnection) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        #: Those that the hub was told of. A number is used once: nobody knows whether one that was broken off was told.
        self._tokens: dict[str, int] = {}
        self._last_token = 0
        self._questions: dict[int, Question] = {}
        self._last = 0
        self._over = False

    def ask(self, make: Callable[[int, int], ToHub], token: str | None) -> tuple[int, Question]:
        """Send a question, made of its number and of its token's; return what its answer comes to.

        Raises:
            LinkDownError: the connection is over; it may have been sent.
        """
        with self._lock:
            number, question = self._asked()
            try:
                operations, named = self._named(token)
                self._send([*operations, make(number, named)], token, named)
            except BaseException:
                self.forget(number)
                raise
        return number, question

    def pour(self, frames: Sequence[Callable[[int, int], bytes]], token: str | None) -> tuple[int, Question]:
        """Send frames that are not JSON, each by itself; return what the answer to the last one comes to.

        Raises:
            LinkDownError: the connection is over; some may have been sent.
        """
        with self._lock:
            operations, named = self._named(token)
            if operations:
                self._send(operations, token, named)
        for frame in frames[:-1]:
            # One by one, so that what others say comes between.
            with self._lock:
                self.connection.send(frame(0, named))
        with self._lock:
            number, question = self._asked()
            try:
                self.connection.send(frames[-1](number, named))
            except BaseException:
                self.forget(number)
                raise
        return number, question

    def tell(self, make: Callable[[int], ToHub], token: str | None) -> None:
        """Send what has no answer.

        Raises:
            LinkDownError: the connection is over.
        """
        with self._lock:
            operations, named = self._named(token)
            self._send([*operations, make(named)], token, named)

    def settle(self, answer: Answer) -> None:
        """Hand an answer to who asked."""
        question = self._questions.pop(answer.id, None)
        if question is not None:
            question.settle(answer)

    def forget(self, number: int) -> None:
        """Wait for this answer no more."""
        self._questions.pop(number, None)

    def end(self) -> None:
        """Answer nobody any more."""
        with self._lock:
            self._over = True
            questions, self._questions = self._questions, {}
        for question in questions.values():
            question.settle(None)

    def _asked(self) -> tuple[int, Question]:
        if self._over:
            raise LinkDownError("it is over")
        self._last += 1
        question = self._questions[self._last] = Question()
        return self._last, question

    def _named(self, token: str | None) -> tuple[list[ToHub], int]:
        """Return what has to be said first, and the number under which the hub knows the token; 0 is none."""
        if token is None:
            return [], 0
        number = self._tokens.get(token)
        if number is not None:
            return [], number
        if self._last_token >= TOKENS:
            self.connection.end()
            raise LinkDownError("it names too many tokens")
        self._last_token += 1
        return [Token(self._last_token, token)], self._last_token

    def _send(self, operations: list[ToHub], token: str | None, named: int) -> None:
        """Send operations; from then on the hub knows the token."""
        self.connection.send(_encoder.encode(operations))
        if token is not None:
            self._tokens[token] = named


_encoder = msgspec.json.Encoder()
