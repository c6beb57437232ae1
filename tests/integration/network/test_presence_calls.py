"""Presence over the SDK and over bare HTTP."""

from typing import Any

import pytest
from localnet import Net, sdk

BASE = "/v2/presence/sub-key/{sub}"


def events(net: Net, channel: str, cursor: int, count: int) -> list[Any]:
    """Return the first so many presence events of a channel."""
    found: list[Any] = []
    while len(found) < count:
        answered = net.poll(f"{channel}-pnpres", cursor)
        cursor = int(answered["t"]["t"])
        found += answered["m"]
    return found


def test_own_join_comes_after_the_handshake(net: Net) -> None:
    """Who polls from its handshake on gets its own join, later than the cursor. [2.14]"""
    hello = net.poll("room,room-pnpres", uuid="me")
    cursor = int(hello["t"]["t"])

    (message,) = events(net, "room", cursor, 1)

    assert hello["m"] == []
    assert int(message["p"]["t"]) > cursor
    assert message["c"] == "room-pnpres"
    assert "i" not in message
    assert (message["d"]["action"], message["d"]["uuid"], message["d"]["occupancy"]) == ("join", "me", 1)
    assert isinstance(message["d"]["timestamp"], int)


def test_leave_and_timeout_are_announced(net: Net) -> None:
    """Leaving and running out make their events, in order, under the names that the SDKs read."""
    cursor = net.cursor()
    net.get(f"{BASE}/channel/room/heartbeat", uuid="a", heartbeat=300)
    net.get(f"{BASE}/channel/room/leave", uuid="a")
    net.get(f"{BASE}/channel/room/heartbeat", uuid="b", heartbeat=1)

    found = [(each["d"]["action"], each["d"]["uuid"]) for each in events(net, "room", cursor, 4)]

    assert found == [("join", "a"), ("leave", "a"), ("join", "b"), ("timeout", "b")]


def test_names_of_presence_events_do_not_count(net: Net) -> None:
    """Such names in heartbeat and leave lists are ignored. [2.14]"""
    net.get(f"{BASE}/channel/room,room-pnpres/heartbeat", uuid="me")

    assert net.get(f"{BASE}/uuid/me").json["payload"] == {"channels": ["room"]}
    assert net.get(f"{BASE}/channel/room-pnpres/leave", uuid="me").json["action"] == "leave"
    assert net.get(f"{BASE}/channel/room").json["occupancy"] == 1


def test_sdk_here_now(net: Net) -> None:
    """The SDK finds who is on one channel, on several, and everywhere."""
    for user_id, channel in (("a", "room"), ("b", "room"), ("c", "hall")):
        net.poll(channel, uuid=user_id)
    with sdk(net, subscribe=False) as client:
        one = client.here_now().channels(["room"]).include_uuids(True).sync().result
        many = client.here_now().channels(["room", "hall", "none"]).include_uuids(True).sync().result
        everywhere = client.here_now().include_uuids(True).sync().result

    assert [each.uuid for each in one.channels[0].occupants] == ["a", "b"]
    assert (one.total_occupancy, many.total_occupancy, everywhere.total_occupancy) == (2, 3, 3)
    assert many.total_channels == 3
    assert {each.channel_name for each in everywhere.channels} == {"room", "hall"}


def test_here_now_pages_and_leaves_out(net: Net) -> None:
    """Limit and offset page the list, occupancy stays the full count; an empty channel says so."""
    for number in range(5):
        net.poll("room", uuid=f"u{number}")
    path = f"{BASE}/channel/room"

    assert net.get(path, limit=2, offset=1).json["uuids"] == ["u1", "u2"]
    assert net.get(path, limit=2).json["occupancy"] == 5
    assert len(net.get(path, limit=-1).json["uuids"]) == 5
    assert "uuids" not in net.get(path, disable_uuids=1).json
    assert net.get(path, state=1, limit=1).json["uuids"] == [{"uuid": "u0"}]
    assert (net.get(f"{BASE}/channel/empty").json["uuids"], net.get(f"{BASE}/channel/empty").json["occupancy"]) == (
        [],
        0,
    )


def test_sdk_state(net: Net) -> None:
    """A state is set by the uuid in the path, read back for one and many channels, and announced. [2.14]"""
    # Before the join, which comes a moment after the handshake.
    cursor = net.cursor()
    net.poll("room", uuid="me")
    with sdk(net, subscribe=False, user_id="other") as client:
        client.set_state().channels(["room", "hall"]).state({"mood": "calm"}).sync()
        one = client.get_state().channels(["room"]).sync().result
        two = client.get_state().channels(["room", "hall"]).sync().result

    changes = [each["d"] for each in events(net, "room", cursor, 2) if each["d"]["action"] == "state-change"]

    assert one.channels == {"room": {"mood": "calm"}}
    assert two.channels == {"room": {"mood": "calm"}, "hall": {"mood": "calm"}}
    assert [(each["uuid"], each["data"], each["occupancy"]) for each in changes] == [("other", {"mood": "calm"}, 1)]


def test_sdk_where_now(net: Net) -> None:
    """Where-now lists the channels of a user, a wildcard under its own name."""
    net.poll("room,foo.%2A", uuid="me")
    with sdk(net, subscribe=False) as client:
        assert client.where_now().uuid("me").sync().result.channels == ["foo.*", "room"]


def test_wildcard_gets_presence_of_its_channels(net: Net) -> None:
    """Presence events of a wildcard's channels and of the wildcard itself come with what matched. [2.14]"""
    cursor = net.cursor()
    net.poll("foo.bar", uuid="a")
    net.poll("foo.%2A", uuid="b")
    found: list[Any] = []
    while len(found) < 2:
        answered = net.poll("foo.%2A-pnpres", cursor)
        cursor = int(answered["t"]["t"])
        found += answered["m"]

    assert [(each["c"], each["b"]) for each in found] == [("foo.bar-pnpres", "foo.*"), ("foo.*-pnpres", "foo.*")]


@pytest.mark.parametrize(
    ("rest", "query", "status"),
    [
        ("/channel/room/heartbeat", {}, 400),
        ("/channel/room/leave", {}, 400),
        ("/channel/room/uuid/me/data", {"state": "7"}, 400),
        ("/channel/room", {"limit": "many"}, 400),
        ("/nowhere/room", {}, 404),
    ],
)
def test_refusals_of_presence(net: Net, rest: str, query: dict[str, str], status: int) -> None:
    """A call without a uuid or with a bad argument is refused, an unknown one is not found."""
    answered = net.get(BASE + rest, **query)

    assert (answered.status, answered.json["error"]) == (status, True)
