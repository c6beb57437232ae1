"""History over the SDK and over bare HTTP: windows, pages, counts, deletion."""

from typing import Any

import pytest
from localnet import Net, NetworkMaker, sdk

from blocks_worker.hub.network.history import Window, window

FETCH = "/v3/history/sub-key/{sub}/channel/"


def fetched(net: Net, channels: str, **query: Any) -> dict[str, list[Any]]:
    """Return the payloads of each channel of a fetch."""
    found = net.get(FETCH + channels, **query).json["channels"]
    return {name: [row["message"] for row in rows] for name, rows in found.items()}


def test_sdk_fetch_pages_backwards_without_loss(net: Net) -> None:
    """Pages of 100 by the oldest timetoken of the last one find all rows above the lower bound, each once."""
    tts = [net.publish("a b,c", number) for number in range(230)]
    found: list[int] = []
    with sdk(net, subscribe=False) as client:
        high = tts[-1] + 1
        while True:
            page = client.fetch_messages(channels=["a b,c"], start=high, end=tts[4], count=100).sync().result
            rows = page.channels.get("a%20b%2Cc", [])
            found = [row.message for row in rows] + found
            if len(rows) < 100:
                break
            high = int(rows[0].timetoken)

    assert found == list(range(4, 230))


def test_keys_are_encoded_names(net: Net) -> None:
    """Rows stand under the percent-encoded name, and a channel without rows is absent. [2.14]"""
    net.publish("x/ü *", 1)

    assert fetched(net, "x%2F%C3%BC%20%2A,none") == {"x%2F%C3%BC%20%2A": [1]}


def test_more_channels_get_fewer_rows(net: Net) -> None:
    """One channel gives up to 100 rows, several 25 each, always the newest in ascending order."""
    for number in range(130):
        net.publish("a", number)
    net.publish("b", "b")

    assert fetched(net, "a", max=500) == {"a": list(range(30, 130))}
    assert fetched(net, "a,b", max=100) == {"a": list(range(105, 130)), "b": ["b"]}
    assert fetched(net, "a", max=3) == {"a": [127, 128, 129]}


def test_start_is_exclusive_and_end_inclusive(net: Net) -> None:
    """The four windows that two bounds can mean, the one with `start` below `end` included. [2.14]"""
    tts = [net.publish("a", number) for number in range(5)]

    assert fetched(net, "a", start=tts[3]) == {"a": [0, 1, 2]}
    assert fetched(net, "a", end=tts[3]) == {"a": [3, 4]}
    assert fetched(net, "a", start=tts[3], end=tts[1]) == {"a": [1, 2]}
    assert fetched(net, "a", start=tts[1], end=tts[3]) == {"a": [2, 3]}


def test_window_of_two_bounds() -> None:
    """The pure window: no bound is no end."""
    assert window(5, 9) == Window(5, 9)
    assert window(9, 5) == Window(4, 8)
    assert window(None, 5).above == 4
    assert window(9, None) == Window(-1, 8)


def test_rows_carry_what_was_asked_for(net: Net) -> None:
    """Publisher, type, meta and custom type come only when asked for; meta that was not given is empty."""
    net.publish("a", 1, uuid="me", meta='{"k":1}', custom_message_type="kind")
    net.publish("a", 2)
    asked = dict.fromkeys(
        ("include_uuid", "include_message_type", "include_meta", "include_custom_message_type"), "true"
    )

    bare = net.get(FETCH + "a").json["channels"]["a"][0]
    first, second = net.get(FETCH + "a", **asked).json["channels"]["a"]

    assert set(bare) == {"message", "timetoken"}
    assert (first["uuid"], first["message_type"], first["meta"], first["custom_message_type"]) == (
        "me",
        None,
        {"k": 1},
        "kind",
    )
    assert (second["meta"], second["custom_message_type"]) == ("", None)


def test_sdk_message_counts(net: Net) -> None:
    """Counts are the rows above each channel's timetoken."""
    tts = [net.publish("a b", number) for number in range(5)]
    with sdk(net, subscribe=False) as client:
        one = client.message_counts().channel("a b").channel_timetokens([tts[1]]).sync().result.channels
        two = client.message_counts().channel(["a b", "c"]).channel_timetokens([tts[3], 1]).sync().result.channels

    assert one == {"a%20b": 3}
    assert two == {"a%20b": 1, "c": 0}


def test_older_history(net: Net) -> None:
    """The older form gives bare rows with whole-number bounds, or rows with timetoken and meta when asked."""
    tts = [net.publish("a", number) for number in range(4)]
    path = "/v2/history/sub-key/{sub}/channel/a"

    assert net.get(path).json == [[0, 1, 2, 3], tts[0], tts[3]]
    assert net.get(path, count=2).json == [[2, 3], tts[2], tts[3]]
    assert net.get(path, count=2, reverse="true").json == [[0, 1], tts[0], tts[1]]
    assert net.get(path, reverse="true", start=tts[0], end=tts[2]).json == [[1, 2], tts[1], tts[2]]
    assert net.get(path, count=1, include_token="true", include_meta="true").json[0] == [
        {"message": 3, "timetoken": tts[3], "meta": ""}
    ]
    assert net.get("/v2/history/sub-key/{sub}/channel/none").json == [[], 0, 0]


def test_sdk_delete(net: Net) -> None:
    """Rows above `start` up to `end` are deleted, and pollers keep theirs."""
    cursor = net.cursor()
    tts = [net.publish("a", number) for number in range(5)]
    with sdk(net, subscribe=False) as client:
        client.delete_messages().channel("a").start(tts[1]).end(tts[3]).sync()

    assert fetched(net, "a") == {"a": [0, 1, 4]}
    assert len(net.poll("a", cursor)["m"]) == 5
    net.ask("/v3/history/sub-key/sub-test/channel/a", method="DELETE")
    assert fetched(net, "a") == {}


def test_history_is_bounded(start_network: NetworkMaker) -> None:
    """A channel keeps its newest rows, and all channels together keep to the bound of bytes."""
    net = start_network(history_limit=3, history_bytes=5_000)
    for number in range(5):
        net.publish("a", number)
    assert fetched(net, "a") == {"a": [2, 3, 4]}

    for number in range(8):
        net.publish(f"room-{number}", "x" * 400)

    assert fetched(net, "a") == {}
    assert fetched(net, "room-7") == {"room-7": ["x" * 400]}


def test_a_flooded_channel_forgets_its_own(start_network: NetworkMaker) -> None:
    """One channel keeps 4 MiB, for pollers and for history; what others said before stays. [R-41]"""
    net = start_network(retention_limit=10_000, retention_bytes=8 * 1024 * 1024)
    net.publish("quiet", "here")
    size = 24_000

    def fill() -> None:
        for _ in range(1_000):
            net.network.publish("sub-test", "flood", b'"%b"' % (b"x" * size))

    net.loop.call(fill)
    realm = net.network.first_realm
    kept = {
        name: sum(message.size() for message in shelf.newest_first("flood", 0.0))
        for name, shelf in (("pollers", realm.retention), ("history", realm.history))
    }

    assert all(4 * 1024 * 1024 - 2 * size < bytes_ <= 4 * 1024 * 1024 for bytes_ in kept.values()), kept
    assert fetched(net, "quiet") == {"quiet": ["here"]}


def test_presence_events_are_not_stored(net: Net) -> None:
    """Nothing on a channel of presence events gets into the history."""
    net.publish("a-pnpres", 1)

    assert fetched(net, "a-pnpres") == {}


def test_answer_is_bounded(start_network: NetworkMaker) -> None:
    """A page above 16 MiB is refused, whole as it is, and the same in parts is given."""
    net = start_network(history_bytes=24 * 1024 * 1024)

    def fill() -> None:
        for number in range(25 * 22):
            net.network.publish("sub-test", f"room-{number % 22}", b'"%b"' % (b"x" * 32_000))

    net.loop.call(fill)
    rooms = [f"room-{number}" for number in range(22)]

    assert net.get(FETCH + ",".join(rooms)).status == 400
    assert len(fetched(net, ",".join(rooms[:10]))) == 10


@pytest.mark.parametrize(
    ("path", "query", "text"),
    [
        ("channel/a", {"start": "x"}, "Invalid Arguments: start"),
        ("channel/a", {"max": "-1"}, "Invalid Arguments: max"),
        ("channel/,", {}, "Invalid Arguments: channels"),
        ("message-counts/a,b", {"channelsTimetoken": "1,2,3"}, "Invalid Arguments: channelsTimetoken"),
        ("message-counts/a", {"timetoken": "x"}, "Invalid Arguments: channelsTimetoken"),
    ],
)
def test_refusals_of_history(net: Net, path: str, query: dict[str, str], text: str) -> None:
    """A bad argument is named, in the shape of history."""
    answered = net.get(f"/v3/history/sub-key/{{sub}}/{path}", **query)

    assert answered.status == 400
    assert answered.json == {"status": 400, "error": True, "error_message": text, "channels": {}}
