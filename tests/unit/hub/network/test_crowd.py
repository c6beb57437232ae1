"""How many connections one address may have, and what is said of one more."""

from __future__ import annotations

import pytest

from blocks_worker.hub.network.crowd import SAID_EVERY, SAID_MOST, TOLD_AT_ONCE, Crowd

ROOM = 100


def taken(crowd: Crowd, address: str, there: list[str], now: float = 0.0) -> bool:
    """Tell whether one more is taken, where these are there with it."""
    return crowd.takes(address, ROOM, len(there), lambda: there, now)


def test_one_address_leaves_a_quarter_to_others() -> None:
    """Unless told otherwise, one address has three quarters of the room, however many others are there. [H7]"""
    crowd, others = Crowd("hub"), ["192.0.2.9"] * 20

    assert taken(crowd, "192.0.2.1", ["192.0.2.1"] * 75 + others)
    assert not taken(crowd, "192.0.2.1", ["192.0.2.1"] * 76 + others)
    assert taken(crowd, "192.0.2.9", ["192.0.2.1"] * 76 + others)
    assert crowd.refused == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", ""])
def test_this_machine_has_any_number(address: str) -> None:
    """Who runs all on one machine meets no such limit, unless he sets one. [H7]"""
    assert taken(Crowd("hub"), address, [address] * ROOM)
    assert not taken(Crowd("hub", 10), address, [address] * 11)
    assert taken(Crowd("hub", 0), "192.0.2.1", ["192.0.2.1"] * ROOM)


def test_a_prefix_is_one_address() -> None:
    """Who has one IPv6 address has 2**64: they count together. [H7]"""
    crowd = Crowd("hub", 2)
    there = ["2001:db8::1", "2001:db8::ffff:2%eth0", "2001:db8:0:0:9::3"]

    assert not taken(crowd, there[-1], there)
    assert taken(crowd, "2001:db8:0:1::1", [*there, "2001:db8:0:1::1"])


def test_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line an address and minute; all are counted. [H7]"""
    crowd = Crowd("hub", 1)
    for now in (0.0, 1.0, SAID_EVERY - 1, SAID_EVERY, SAID_EVERY + 1):
        for address in ("192.0.2.1", "192.0.2.2"):
            assert not taken(crowd, address, [address] * 2, now)

    said = [(record.__dict__["from"], record.message) for record in caplog.records]
    assert said == [("192.0.2.1", "connections_refused"), ("192.0.2.2", "connections_refused")] * 2
    assert crowd.refused == 10


def test_what_is_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Of very many addresses the one that was logged longest ago is forgotten, and logged again. [H7]"""
    crowd = Crowd("hub", 1)
    for place in [*range(SAID_MOST + 1), 0, SAID_MOST]:
        address = f"192.0.{place // 256}.{place % 256}"
        assert not taken(crowd, address, [address] * 2, 1.0)

    assert len(caplog.records) == SAID_MOST + 2


def test_few_are_told_why_at_the_same_time() -> None:
    """Beyond that they are cut without a word, until one has gone. [H7]"""
    crowd = Crowd("hub", 1)

    assert [crowd.may_tell() for _ in range(TOLD_AT_ONCE + 1)] == [True] * TOLD_AT_ONCE + [False]
    crowd.has_gone()
    assert crowd.may_tell()
