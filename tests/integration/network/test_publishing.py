"""Publish and signal, over the SDK and over bare HTTP."""

import json
import zlib
from typing import Any
from urllib.parse import quote

import pytest
from localnet import Net, sdk

from blocks_worker.hub.network.publishing import is_sound_json

PATH = "/publish/pub-test/sub-test/0/room/0"


def test_sdk_publish_by_post_reaches_a_poll(net: Net) -> None:
    """What the SDK publishes with POST comes out of its own poll with all fields that it needs."""
    with sdk(net) as client:
        cursor = net.cursor("room")
        sent = client.publish().channel("room").message({"ä": [1, None]}).use_post(True).meta({"k": 1}).sync()
        (message,) = net.poll("room", cursor)["m"]

    region = message["p"]["r"]

    assert sent.status.original_response == [1, "Sent", str(sent.result.timetoken)]
    assert message == {
        "a": "2",
        "f": 0,
        "i": "user-1",
        "p": {"t": str(sent.result.timetoken), "r": region},
        "k": "sub-test",
        "c": "room",
        "u": {"k": 1},
        "d": {"ä": [1, None]},
    }


def test_sdk_publish_by_get(net: Net) -> None:
    """A payload in the address arrives whole, slashes, commas and quotes included."""
    cursor = net.cursor("room")
    with sdk(net, subscribe=False) as client:
        client.publish().channel("room").message('a/b,c"%?&#é').sync()

    assert net.poll("room", cursor)["m"][0]["d"] == 'a/b,c"%?&#é'


def test_sdk_compressed_publish(net: Net) -> None:
    """The SDK labels zlib data as gzip; it is inflated all the same. [2.14]"""
    cursor = net.cursor("room")
    with sdk(net, subscribe=False) as client:
        client.publish().channel("room").message("z" * 1000).use_post(True).use_compression().sync()

    assert net.poll("room", cursor)["m"][0]["d"] == "z" * 1000


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_inflated_body_is_bounded(net: Net, encoding: str) -> None:
    """A small body that would inflate without end is refused. [2.14] [F4]"""
    bomb = zlib.compress(b" " * 50_000_000)

    answered = net.raw_ask(PATH, method="POST", body=bomb, headers={"Content-Encoding": encoding})

    assert answered.status == 413


def test_further_segments_belong_to_the_payload(net: Net) -> None:
    """A payload whose slashes were not encoded is put together again."""
    cursor = net.cursor("room")

    assert net.ask(f"{PATH}/%22a/b%22").status == 200
    assert net.poll("room", cursor)["m"][0]["d"] == "a/b"


def test_encoded_names(net: Net) -> None:
    """A comma or slash inside a name comes encoded and stays inside the name. [2.14]"""
    for name in ("a b,c", "x/y", "ünï*", "100%"):
        cursor = net.cursor("other")
        net.publish(name, 1)

        found = net.poll(f"other,{quote(name, safe='')}", cursor)["m"]

        assert [each["c"] for each in found] == [name]


def test_store_zero_is_delivered_but_not_stored(net: Net) -> None:
    """`store=0` keeps a message out of the history only."""
    cursor = net.cursor("room")
    net.publish("room", 1, store=0)

    assert len(net.poll("room", cursor)["m"]) == 1
    assert net.get("/v3/history/sub-key/{sub}/channel/room").json["channels"] == {}


def test_fire_is_neither_delivered_nor_stored(net: Net) -> None:
    """`store=0&norep=1` is answered as usual and goes nowhere."""
    net.settings(hold=0.05)
    cursor = net.cursor("room")
    net.publish("room", 1, store=0, norep="true")

    assert net.poll("room", cursor)["m"] == []


def test_what_travels_beside_the_payload(net: Net) -> None:
    """A given timetoken, a type and a meta that is no JSON arrive in their fields; the own timetoken stays."""
    cursor = net.cursor("room")
    tt = net.publish("room", 1, ptto="17000000000000000", custom_message_type="kind-1", meta="plain words")

    (message,) = net.poll("room", cursor)["m"]

    assert message["o"]["t"] == "17000000000000000"
    assert (message["p"]["t"], message["cmt"], message["u"]) == (str(tt), "kind-1", "plain words")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"NaN",
        b'{"a":Infinity}',
        b"[" * 600 + b"]" * 600,
        b"[" * 16_000 + b"]" * 16_000,
        b"1" * 4_400,
        b'"\xff"',
        b"'a'",
        b'"\x01"',
    ],
)
def test_unsound_json_is_refused(net: Net, payload: bytes) -> None:
    """What would break a reader's parser is refused as invalid JSON, never an error of the server."""
    answered = net.ask(PATH, method="POST", body=payload)

    assert (answered.status, answered.json[:2]) == (400, [0, "Invalid JSON"])


def test_deep_but_allowed() -> None:
    """512 levels pass, one more does not, and many shallow ones always do."""
    assert is_sound_json(b"[" * 512 + b"]" * 512)
    assert not is_sound_json(b'[{"a":' * 257 + b"1" + b"}]" * 257)
    assert is_sound_json(b"[" + b"[]," * 2000 + b"[]]")


@pytest.mark.parametrize(("size", "status"), [(32_768, 200), (32_769, 413), (70_000, 413)])
def test_size_limit_of_a_post(net: Net, size: int, status: int) -> None:
    """A body may have 32,768 bytes; a refusal leaves the connection usable and has its own shape."""
    answered = net.ask(PATH, method="POST", body=json.dumps("x" * (size - 2)).encode())

    assert answered.status == status
    assert status == 200 or answered.json["message"] == "Request Entity Too Large."


def test_size_limit_of_a_get_counts_escapes(net: Net) -> None:
    """In an address the escapes count too."""
    assert net.ask(f"{PATH}/%22{'%20' * 11_000}%22").status == 413
    assert net.ask(f"{PATH}/1", meta="x" * 33_000).status == 413


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/publish/wrong/sub-test/0/room/0/1", [0, "Invalid Key"]),
        ("/publish/pub-other/sub-test/0/room/0/1", [0, "Invalid Key"]),
        ("/publish/pub-test/sub-test/0//0/1", [0, "Invalid Channel"]),
        ("/publish/pub-test/sub-test/0/a,b/0/1", [0, "Invalid Channel"]),
        (f"/publish/pub-test/sub-test/0/{'c' * 513}/0/1", [0, "Invalid Channel"]),
        (f"/publish/pub-test/sub-test/0/a/0/1?custom_message_type={'t' * 51}", [0, "Invalid custom_message_type"]),
        ("/signal/pub-test/sub-test/0/room/0/%22" + "x" * 63 + "%22", [0, "Signal size too large"]),
        ("/signal/pub-test/sub-test/0/room/0/x", [0, "Invalid JSON"]),
    ],
)
def test_refusals_of_publish(net: Net, path: str, expected: list[Any]) -> None:
    """Each refusal is a 400 whose body is a list with 0, the reason and a timetoken."""
    answered = net.ask(path)

    assert (answered.status, answered.json[:2]) == (400, expected)
    assert answered.json[2].isdigit()


def test_wrong_subscribe_key(net: Net) -> None:
    """A subscribe key that is not ours is refused in the shape of the access manager."""
    answered = net.ask("/publish/pub-test/nobody/0/room/0/1")

    assert answered.status == 400
    assert answered.json["message"] == "Invalid Subscribe Key"


def test_sdk_signal(net: Net) -> None:
    """A signal is delivered with its kind and never stored."""
    cursor = net.cursor("room")
    with sdk(net, subscribe=False) as client:
        client.signal().channel("room").message("hi").sync()

    (message,) = net.poll("room", cursor)["m"]

    assert (message["e"], message["d"]) == (1, "hi")
    assert net.get("/v3/history/sub-key/{sub}/channel/room").json["channels"] == {}


def test_keysets_do_not_meet(net: Net) -> None:
    """The same channel name under another keyset is another channel."""
    net.settings(hold=0.05)
    cursor = net.cursor("room")
    assert net.ask("/publish/pub-other/sub-other/0/room/0/1").status == 200

    assert net.poll("room", cursor)["m"] == []
    assert len(net.ask("/v2/subscribe/sub-other/room/0", tt=cursor).json["m"]) == 1
