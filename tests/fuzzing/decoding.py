"""Play messages at a reader and write down what became of them; whatever is neither taken nor refused is a crash."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fuzzing.mutations import Mutator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fuzzing.targets import Target

#: Seconds that one message may take, and after which a reader that does not come back is called off.
SLOW, HUNG = 1.0, 10.0
#: Crashes of one reader that are kept; more would mostly be the same.
MOST_KEPT = 5


@dataclass
class Crash:
    """One message that was neither taken nor refused, or took too long."""

    target: str
    seed: str
    number: int
    message: bytes
    what: str

    def __str__(self) -> str:
        shown = repr(self.message if len(self.message) <= 4000 else self.message[:4000] + b"...")
        which = f"message {self.number} of seed {self.seed}, {len(self.message)} bytes"
        return f"{self.target}: {which}\n  {shown}\n{self.what}"


@dataclass
class Tally:
    """What became of the messages of one reader."""

    target: str
    messages: int = 0
    as_json: int = 0
    refused: int = 0
    accepted: int = 0
    longest: float = 0.0
    crashed: int = 0
    crashes: list[Crash] = field(default_factory=list)


class HungError(BaseException):
    """Call a reader off; no reader catches it."""


def play(target: Target, seed: int, messages: int, *, since: int = 0, watched: bool = False) -> Tally:
    """Play so many messages at a reader, beginning with that number; `watched`: on the main thread, with an alarm."""
    tally = Tally(target.name)
    for number, message in _messages(target, seed, since, messages):
        tally.messages += 1
        tally.as_json += _is_json(message)
        what = _fed(target, message, tally, watched=watched)
        if what is not None:
            tally.crashed += 1
            if len(tally.crashes) < MOST_KEPT:
                tally.crashes.append(Crash(target.name, str(seed), number, message, what))
    return tally


def _messages(target: Target, seed: int, since: int, count: int) -> Iterator[tuple[int, bytes]]:
    for number in range(since, since + count):
        source = random.Random(f"{seed} {target.name} {number}")
        yield number, Mutator(source).message(target.samples, target.words)


def message_of(target: Target, seed: int, number: int) -> bytes:
    """Return one message again."""
    return next(_messages(target, seed, number, 1))[1]


def _fed(target: Target, message: bytes, tally: Tally, *, watched: bool) -> str | None:
    """Feed one message; return what went wrong."""
    if watched:
        signal.setitimer(signal.ITIMER_REAL, HUNG)
    begun = time.perf_counter()
    try:
        target.feed(message)
    except target.refusals:
        tally.refused += 1
    except (Exception, HungError):  # noqa: BLE001 - whatever is no refusal is what is looked for
        return traceback.format_exc()
    else:
        tally.accepted += 1
    finally:
        if watched:
            signal.setitimer(signal.ITIMER_REAL, 0)
    took = shortest(time.perf_counter() - begun, lambda: _again(target, message))
    tally.longest = max(tally.longest, took)
    return f"it took {took:.2f} s" if took > SLOW else None


def _again(target: Target, message: bytes) -> None:
    with contextlib.suppress(*target.refusals):
        target.feed(message)


def shortest(took: float, again: Callable[[], object]) -> float:
    """Return how long something takes that took so long: whoever shares the machine may have been at work."""
    for _ in range(3):
        if took <= SLOW / 4:
            break
        begun = time.perf_counter()
        again()
        took = min(took, time.perf_counter() - begun)
    return took


def _is_json(message: bytes) -> bool:
    try:
        _strict.decode(message.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> Any:
    raise ValueError(name)


_strict = json.JSONDecoder(parse_constant=_refuse)


def call_off(_number: int, _frame: object) -> None:
    """Be the handler of the alarm."""
    raise HungError("it did not come back")
