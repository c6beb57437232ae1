"""The control channel: only what the hub signed, once, is heard; nothing ends the listening."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_worker import Bus

from blocks_worker.concurrency import Deadline
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.control import (
    AnswerRun,
    CancelRun,
    Drain,
    ExpireRun,
    PauseRun,
    Probe,
    ResumeRun,
    StartTask,
    sign,
)
from blocks_worker.protocol.leases import PauseFlag
from blocks_worker.transports.base import Gap, Link, Status
from blocks_worker.worker.counters import Counters
from blocks_worker.worker.listener import Ears, Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "key"


class Heard:
    """A listener on a bus, and what it told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.counters = Counters()
        ears = Ears(
            offer=self.told.append,
            withdraw=self.told.append,
            cancel=lambda key, reason: self.told.append((key, reason)),
            expire=lambda key, limit: self.told.append((key, limit)),
            pause=self.told.append,
            answer=self.told.append,
            probe=self.told.append,
            drain=lambda: self.told.append("drain"),
            reconcile=lambda: self.told.append("reconcile"),
        )
        self.bus = Bus()
        self.ear = self.bus.subscribe(["c"])
        self.listener = Listener(ears, self.counters)
        self.listener.listen(self.ear, KEY)

    def say(self, body: dict[str, Any]) -> None:
        """Send a message."""
        self.bus.publish("c", [body], Deadline(1))

    def signed(self, message: Any, sequence: int, key: str = KEY) -> dict[str, Any]:
        """Return a message as the hub would sign it."""
        signed = sign(encode(message), sequence, key)
        return {"control": signed.control, "sequence": signed.sequence, "signature": signed.signature}

    def counted(self, name: str) -> None:
        """Wait until something was counted."""
        wait_until(lambda: self.counters.snapshot().get(name), what=name)


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Return a listener at work."""
    one = Heard()
    yield one
    one.ear.close(Deadline(1))
    assert one.listener.join(5)


def test_each_kind_of_message_reaches_its_ear(heard: Heard) -> None:
    """Offers, cancels, probes and the order to drain are told to whom they concern."""
    offer = StartTask(task_id="t", epoch=1, digest="d")
    for sequence, message in enumerate([offer, CancelRun(task_id="t", epoch=1, reason="r"), Probe(nonce="n"), Drain()]):
        heard.say(heard.signed(message, sequence))

    wait_until(lambda: len(heard.told) == 4)
    assert heard.told == [offer, (("t", 1), "r"), "n", "drain"]


def test_the_end_of_a_duration_and_each_turn_of_a_pause_reach_their_ears(heard: Heard) -> None:
    """[R-26] [R-57] What expires is told with its limit, pause and resume with the number that orders them."""
    messages = [
        ExpireRun(task_id="t", epoch=1, agent_name="a", reason="duration_expired"),
        PauseRun(task_id="t", epoch=1, pause_seq=1),
        ResumeRun(task_id="t", epoch=1, pause_seq=2),
    ]
    for sequence, message in enumerate(messages):
        heard.say(heard.signed(message, sequence))

    wait_until(lambda: len(heard.told) == 3)
    assert heard.told == [
        (("t", 1), "duration_expired"),
        PauseFlag(task_id="t", epoch=1, pause=True, pause_seq=1),
        PauseFlag(task_id="t", epoch=1, pause=False, pause_seq=2),
    ]


def test_an_answer_reaches_its_ear_and_one_that_was_too_long_is_asked_for(heard: Heard) -> None:
    """The value comes as the hub sent it; where it stayed behind, the hub is asked at once."""
    for sequence, value in enumerate(['{"a":1}', None]):
        heard.say(heard.signed(AnswerRun(task_id="t", epoch=1, ask_id="ask-1", value=value), sequence))

    wait_until(lambda: len(heard.told) == 2)
    flag, then = heard.told
    assert (flag.task_id, flag.epoch, flag.ask_id, bytes(flag.value)) == ("t", 1, "ask-1", b'{"a":1}')
    assert then == "reconcile"


def test_forged_and_replayed_messages_are_counted_and_dropped(heard: Heard) -> None:
    """Bad signature, changed number, second coming, unknown kind and junk: each refused by its reason. [K7]"""
    good = heard.signed(Probe(nonce="n"), 5)
    for body in (
        heard.signed(Probe(nonce="x"), 6, key="another"),
        {**good, "sequence": 7},
        {**good, "control": good["control"].replace("n", "m")},
        {"hello": 1},
        {**good, "control": 3},
        heard.signed({"type": "Odd"}, 8),
        good,
        good,
    ):
        heard.say(body)

    heard.counted("messages_refused_replay")
    counts = heard.counters.snapshot()
    assert heard.told == ["n"]
    assert counts["messages_refused_signature"] == 3
    assert counts["messages_refused_shape"] == 2
    assert counts["messages_refused_unsupported"] == 1


def test_an_ear_that_raises_does_not_end_the_listening(heard: Heard) -> None:
    """The next message is heard. [A11]"""
    told = list[str]()
    ears = Ears(
        offer=lambda _offer: 1 / 0,  # type: ignore[arg-type]  # it only has to raise
        withdraw=lambda _key: None,
        cancel=lambda _key, _reason: None,
        expire=lambda _key, _limit: None,
        pause=lambda _flag: None,
        answer=lambda _flag: None,
        probe=told.append,
        drain=lambda: None,
        reconcile=lambda: None,
    )
    ear, counters = heard.bus.subscribe(["c"]), Counters()
    listener = Listener(ears, counters)
    listener.listen(ear, KEY)
    heard.say(heard.signed(StartTask(task_id="t", epoch=1, digest="d"), 1))
    heard.say(heard.signed(Probe(nonce="after"), 2))

    wait_until(lambda: told == ["after"])
    assert counters.snapshot()["messages_failed"] == 1
    ear.close(Deadline(1))
    assert listener.join(5)


def test_an_open_gap_and_a_recovery_ask_the_hub(heard: Heard) -> None:
    """What may have been missed is asked for; what was filled is not."""
    heard.ear.waiting.put(Gap("c", 1, 2, filled=True))
    heard.ear.waiting.put(Gap("c", 3, 4, filled=False))
    heard.ear.waiting.put(Status(Link.RETRYING, "away"))
    heard.ear.waiting.put(Status(Link.RECOVERED))

    wait_until(lambda: heard.told == ["reconcile", "reconcile"])
    assert heard.counters.snapshot()["gaps_repaired"] == 1


def test_a_new_key_begins_its_own_numbers(heard: Heard) -> None:
    """After a new registration the old key's messages are worth nothing, and numbers start again."""
    heard.say(heard.signed(Probe(nonce="a"), 9))
    wait_until(lambda: heard.told == ["a"])
    heard.listener.rekey("new")
    heard.say(heard.signed(Probe(nonce="old"), 10))
    heard.say(heard.signed(Probe(nonce="b"), 1, key="new"))

    wait_until(lambda: heard.told == ["a", "b"])
