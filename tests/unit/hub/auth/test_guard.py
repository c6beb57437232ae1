"""The guard: who holds a token, and for how long it is believed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support_hub import SetClock

from blocks_worker.concurrency import Entropy
from blocks_worker.hub.auth import guard as guard_module
from blocks_worker.hub.auth.guard import Guard, consumer_fields, holder_fields
from blocks_worker.hub.auth.signing import SigningKeys
from blocks_worker.hub.auth.tokens import Kind, Tokens
from blocks_worker.hub.problems import RefusalError
from blocks_worker.hub.task_service import Consumer, Holder

CONSUMER = Consumer(owner="ann", session_channel="session.1")
HOLDER = Holder(agent_id="a1", agent_name="echo", instance_id="i1", incarnation="c1", owner="ann")


class _Door:
    def __init__(self, room: int = guard_module.REMEMBERED) -> None:
        self.clock = SetClock()
        self.tokens = Tokens(SigningKeys.fixed(b"s" * 32, self.clock), clock=self.clock, entropy=Entropy())
        self.revoked: set[str] = set()
        self.guard = Guard(self.tokens, self.clock, self.revoked, room=room)


def test_a_token_names_its_principal_each_time() -> None:
    """The first look and the remembered one say the same."""
    door = _Door()
    consumer = door.tokens.issue(Kind.CONSUMER, "ann", consumer_fields(CONSUMER), 60)
    holder = door.tokens.issue(Kind.INSTANCE, "a1", holder_fields(HOLDER), 60)

    assert [door.guard.consumer(consumer), door.guard.consumer(consumer)] == [CONSUMER, CONSUMER]
    assert [door.guard.holder(holder), door.guard.holder(holder)] == [HOLDER, HOLDER]


def test_a_remembered_token_expires_all_the_same() -> None:
    """What was believed once is not believed after its time."""
    door = _Door()
    token = door.tokens.issue(Kind.CONSUMER, "ann", consumer_fields(CONSUMER), 60)
    door.guard.consumer(token)
    door.clock.ahead = 200

    with pytest.raises(RefusalError, match="TokenExpired"):
        door.guard.consumer(token)


def test_a_remembered_token_of_one_kind_is_none_of_the_other() -> None:
    """[G6] Remembering keeps the kinds apart."""
    door = _Door()
    token = door.tokens.issue(Kind.CONSUMER, "ann", consumer_fields(CONSUMER), 60)
    door.guard.consumer(token)

    with pytest.raises(RefusalError, match="TokenInvalid"):
        door.guard.holder(token)


def test_no_token_is_refused_with_what_to_send() -> None:
    """A missing token has a code of its own."""
    with pytest.raises(RefusalError, match="TokenMissing"):
        _Door().guard.consumer(None)


def test_what_is_remembered_is_bounded() -> None:
    """More tokens than there is room for are still let in, the oldest are forgotten."""
    door = _Door(room=50)
    tokens = [door.tokens.issue(Kind.CONSUMER, "ann", consumer_fields(CONSUMER), 60) for _ in range(55)]

    assert {door.guard.consumer(token) for token in tokens} == {CONSUMER}
    assert len(door.guard._consumers._known) == 50
    assert door.guard.consumer(tokens[0]) == CONSUMER


@pytest.mark.parametrize("kind", Kind)
def test_a_token_that_names_nobody_is_refused(kind: Kind) -> None:
    """[G6] A sound signature over too little is no principal: 401, not a fault."""
    door = _Door()
    token = door.tokens.issue(kind, "ann", {}, 60)
    look = door.guard.consumer if kind is Kind.CONSUMER else door.guard.holder

    with pytest.raises(RefusalError, match="TokenInvalid"):
        look(token)


def test_a_token_of_a_revoked_key_is_refused_although_it_is_remembered() -> None:
    """Taking a key back counts with the next call, for both kinds, and at doors that take either."""
    door = _Door()
    consumer = door.tokens.issue(Kind.CONSUMER, "ann", consumer_fields(replace(CONSUMER, key="key_1")), 60)
    holder = door.tokens.issue(Kind.INSTANCE, "a1", holder_fields(replace(HOLDER, key="key_1")), 60)
    door.guard.either(consumer)
    door.guard.either(holder)
    door.revoked.add("key_1")

    for look, token in ((door.guard.consumer, consumer), (door.guard.either, consumer), (door.guard.holder, holder)):
        with pytest.raises(RefusalError, match="TokenRevoked"):
            look(token)
