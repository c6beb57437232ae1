"""Subscribe: handshake, cursor, hold, and what it refuses."""

import pytest
from localnet import Net, sdk
from pubnub.endpoints.pubsub.subscribe import Subscribe


def test_sdk_round_trip(net: Net) -> None:
    """The SDK's endpoint shakes hands at once, and its next poll gets what was published since."""
    with sdk(net) as client:
        hello = Subscribe(client).channels(["a b", "c"]).timetoken(0).sync().result
        first = client.publish().channel("a b").message(1).use_post(True).sync().result.timetoken
        second = client.publish().channel("c").message(2).use_post(True).sync().result.timetoken
        cursor, region = int(hello["t"]["t"]), hello["t"]["r"]
        reply = Subscribe(client).channels(["a b", "c"]).timetoken(cursor).region(region).sync().result

    assert hello["m"] == []
    assert 1 <= region <= 99
    assert [(each["c"], each["d"], int(each["p"]["t"])) for each in reply["m"]] == [("a b", 1, first), ("c", 2, second)]
    assert reply["t"] == {"t": str(second), "r": region}


@pytest.mark.parametrize("query", ["", "?tt=0", "?tt=", "?tt=0&ee="])
def test_first_poll_is_answered_at_once(net: Net, query: str) -> None:
    """A missing, empty or zero timetoken is a handshake, also with an empty `ee`. [2.14]"""
    net.publish("room", "before")

    answered = net.ask(f"/v2/subscribe/sub-test/room/0{query}")

    assert answered.json["m"] == []
    assert len(answered.json["t"]["t"]) == 17


def test_same_timetoken_may_be_asked_again(net: Net) -> None:
    """Nothing is consumed: two polls with one cursor get the same. [2.14]"""
    cursor = net.cursor()
    net.publish("room", 1)

    assert net.poll("room", cursor) == net.poll("room", cursor)


def test_nothing_new_returns_the_same_timetoken_after_the_hold(net: Net) -> None:
    """An empty poll ends after the hold with its own cursor, a number so old that nothing is that old included."""
    net.settings(hold=0.1)
    cursor = net.cursor()

    assert net.poll("room", cursor)["t"]["t"] == str(cursor)
    assert net.poll("room", 5)["t"]["t"] == "5"


def test_new_channel_is_read_from_the_same_timetoken(net: Net) -> None:
    """The list may grow with an unchanged cursor."""
    cursor = net.cursor("a")
    net.publish("b", "early")

    assert net.poll("a,b", cursor)["m"][0]["d"] == "early"


def test_raw_comma_separates_before_decoding(net: Net) -> None:
    """An encoded comma belongs to a name, a raw one separates names. [2.14]"""
    cursor = net.cursor()
    net.publish("a,b", "one name")
    net.publish("a", "two names")

    assert [each["d"] for each in net.poll("a%2Cb", cursor)["m"]] == ["one name"]
    assert [each["d"] for each in net.poll("a,b", cursor)["m"]] == ["two names"]


def test_odd_names_match_nothing(net: Net) -> None:
    """A doubled ending of presence is tolerated, and a channel listed twice counts once."""
    cursor = net.cursor()
    net.publish("room", 1)

    assert len(net.poll("room,room-pnpres-pnpres,room", cursor)["m"]) == 1


@pytest.mark.parametrize(
    ("channels", "query"),
    [
        ("room", {"filter-expr": "meta.x == 1"}),
        ("room", {"channel-group": "g"}),
        (",", {}),
        ("room", {"tt": "abc"}),
        ("room", {"tt": "-5"}),
        ("room", {"heartbeat": "soon"}),
        ("room", {"state": "[1]"}),
        ("room", {"state": "{"}),
        ("room", {"state": '{"a":"' + "x" * 33_000 + '"}'}),
        (",".join(map(str, range(2001))), {}),
        ("%FF", {}),
        ("room", {"uuid": "u" * 93}),
    ],
)
def test_refusals_of_subscribe(net: Net, channels: str, query: dict[str, str]) -> None:
    """What is not offered or not sound is refused with 400, a sentence and a content type."""
    answered = net.ask(f"/v2/subscribe/sub-test/{channels}/0", **{"tt": "1", "uuid": "u", **query})

    assert answered.status == 400
    assert answered.json["error"] is True
    assert answered.json["message"]
    assert "javascript" in answered.headers["Content-Type"]


def test_a_message_that_matches_twice_comes_twice(net: Net) -> None:
    """A wildcard and the plain name each get their copy; only the wildcard's says what matched. [2.14]"""
    cursor = net.cursor()
    net.publish("foo.bar", 1)

    found = net.poll("foo.bar,foo.%2A", cursor)["m"]

    assert [(each["c"], each.get("b")) for each in found] == [("foo.bar", None), ("foo.bar", "foo.*")]
