"""What a call says about itself."""

import pytest

from blocks_worker.concurrency import Clock
from blocks_worker.hub.network.call import Call, called
from blocks_worker.hub.network.channels import Timeline
from blocks_worker.hub.network.realm import Realm, Shared
from blocks_worker.hub.network.settings import Keyset, NetworkSettings
from blocks_worker.hub.network.wire import Refused, Request


def call_of(query: str) -> Call:
    """Return the call of a request with this query."""
    clock = Clock()
    realm = Realm(Keyset("p", "s"), Shared(NetworkSettings(), clock, Timeline(clock), 1))
    return called(realm, Request("GET", "/", query, "localhost", b"", keep_alive=True), None)


def test_numbers_and_yes() -> None:
    """Numbers may be missing or empty, yes is `1` or `true`, and nothing said is the default."""
    call = call_of("a=5&b=&c=true&d=0&uuid=me")

    assert (call.user_id, call.number("a"), call.number("b"), call.number("x")) == ("me", 5, None, None)
    assert (call.asks("c"), call.asks("d"), call.asks("x"), call.asks("x", default=True)) == (True, False, False, True)


def test_refusals() -> None:
    """A number that is none and a user id that is too long are refused."""
    with pytest.raises(Refused):
        call_of("a=x").number("a")
    with pytest.raises(Refused):
        call_of("uuid=" + "u" * 93)


def test_without_access_control_everything_is_allowed() -> None:
    """No access manager means no demand fails."""
    call_of("").demand(["anything"], 255)
