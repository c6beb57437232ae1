"""Tokens: what they allow, what each bad one is told, and that both SDK and network read them."""

import base64
import time
from typing import Any

import cbor2
import pytest
from localnet import Answered, Net, NetworkMaker, sdk
from pubnub.endpoints.pubsub.subscribe import Subscribe
from pubnub.exceptions import PubNubException
from pubnub.managers import TokenManager

from blocks_worker.hub.network.access import READ, AccessManager, Denied, mint

SECRET = b"a secret of the hub, 32 bytes ok"
NOW = int(time.time())


def token(**changed: Any) -> str:
    """Return a token of user-1 that reads `in` and `in-2` and writes `out`."""
    fields: dict[str, Any] = {"user_id": "user-1", "read": ["in", "in-2"], "write": ["out"], "now_s": NOW}
    return mint(changed.pop("secret", SECRET), **{"ttl_minutes": 60, **fields, **changed})


@pytest.fixture
def guarded(start_network: NetworkMaker) -> Net:
    """Give a running network with access control."""
    return start_network(secret=SECRET)


def subscribe(net: Net, channels: str, **query: Any) -> Answered:
    """Shake hands."""
    return net.ask(f"/v2/subscribe/sub-test/{channels}/0", **{"uuid": "user-1", **query})


def test_sdk_reads_a_token() -> None:
    """The SDK's own parser finds version, user, time to live and rights; the first letters are the known ones."""
    parsed = TokenManager.parse_token(token())

    assert (parsed["version"], parsed["authorized_uuid"], parsed["ttl"], parsed["timestamp"]) == (2, "user-1", 60, NOW)
    assert parsed["resources"]["channels"]["in"]["read"] is True
    assert parsed["resources"]["channels"]["in"]["write"] is False
    assert parsed["resources"]["channels"]["out"]["write"] is True
    assert token().startswith("qEF2")
    assert token(user_id=None).startswith("p0F2")


def test_sdk_with_a_token(guarded: Net) -> None:
    """With its token the SDK publishes, polls, and asks history of what was granted, and nothing else."""
    with sdk(guarded, token=token(read=["in", "in-2", "out"])) as client:
        hello = Subscribe(client).channels(["in", "out"]).timetoken(0).sync().result
        client.publish().channel("out").message(1).use_post(True).sync()
        reply = Subscribe(client).channels(["in", "out"]).timetoken(int(hello["t"]["t"])).sync().result
        rows = client.fetch_messages(channels=["out"]).sync().result.channels["out"]
        with pytest.raises(PubNubException) as refused:
            client.publish().channel("in").message(1).use_post(True).sync()

    assert [each["d"] for each in reply["m"]] == [1]
    assert [row.message for row in rows] == [1]
    assert refused.value._status_code == 403


def test_every_listed_channel_needs_read(guarded: Net) -> None:
    """The refusal of a poll lists exactly the channels without the right, presence names by themselves."""
    answered = subscribe(guarded, "in,out,in-pnpres,in-2", auth=token())

    assert answered.status == 403
    assert answered.json == {
        "message": "Forbidden",
        "payload": {"channels": ["out", "in-pnpres"]},
        "error": True,
        "service": "Access Manager",
        "status": 403,
    }
    assert subscribe(guarded, "in,in-2", auth=token()).status == 200


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ("", "Forbidden"),
        ("legacy-key", "Token is invalid."),
        ("A" * 70_000, "Token is invalid."),
        ("qEF2" * 5000, "Token is invalid."),
        ("ü", "Token is invalid."),
        (token(secret=b"somebody else's"), "Token is invalid."),
        (token()[:-8] + "AAAAAAA=", "Token is invalid."),
        (token(now_s=NOW - 3601), "Token is expired."),
        (token(user_id="user-2"), "Token is not for this uuid."),
        (token(read=[]), "Forbidden"),
    ],
    ids=["none", "legacy", "huge", "junk", "not-ascii", "foreign", "tampered", "expired", "other-user", "no-right"],
)
def test_bad_tokens(guarded: Net, auth: str, message: str) -> None:
    """Each bad token is refused with 403 and its reason, for a poll and for a history call."""
    polled = subscribe(guarded, "in", auth=auth)
    fetched = guarded.ask("/v3/history/sub-key/sub-test/channel/in", auth=auth, uuid="user-1")

    assert (polled.status, polled.json["message"]) == (403, message)
    assert (fetched.status, fetched.json["error_message"]) == (403, message)


def test_tampered_rights_are_refused(guarded: Net) -> None:
    """Rights added to a token break its signature."""
    fields = cbor2.loads(base64.urlsafe_b64decode(token()))
    fields[b"res"][b"chan"]["secret"] = 3

    forged = base64.urlsafe_b64encode(cbor2.dumps(fields)).decode()

    assert subscribe(guarded, "secret", auth=forged).json["message"] == "Token is invalid."


def test_token_without_user_serves_everybody(guarded: Net) -> None:
    """A token that names no user is good for any."""
    free = token(user_id=None)

    assert subscribe(guarded, "in", auth=free, uuid="anybody").status == 200


@pytest.mark.parametrize(
    ("path", "allowed", "denied"),
    [
        ("/publish/pub-test/sub-test/0/{}/0/1", "out", "in"),
        ("/signal/pub-test/sub-test/0/{}/0/1", "out", "in"),
        ("/v2/subscribe/sub-test/{}/0", "in", "out"),
        ("/v3/history/sub-key/sub-test/channel/{}", "in", "out"),
        ("/v2/history/sub-key/sub-test/channel/{}", "in", "out"),
        ("/v3/history/sub-key/sub-test/message-counts/{}", "in", "out"),
        ("/v2/presence/sub-key/sub-test/channel/{}", "in", "out"),
        ("/v2/presence/sub-key/sub-test/channel/{}/uuid/user-1", "in", "out"),
        ("/v2/presence/sub-key/sub-test/channel/{}/uuid/user-1/data?state=%7B%7D", "in", "out"),
    ],
)
def test_rights_of_each_call(guarded: Net, path: str, allowed: str, denied: str) -> None:
    """Publishing needs write, all the reading needs read, and one does not give the other."""
    joint = "&" if "?" in path else "?"
    statuses = [
        guarded.ask(f"{path.format(name)}{joint}uuid=user-1&auth={token()}").status for name in (allowed, denied)
    ]

    assert statuses == [200, 403]


def test_delete_needs_its_own_right(guarded: Net) -> None:
    """Reading and writing a channel do not allow deleting from it."""
    path = "/v3/history/sub-key/sub-test/channel/in"

    plain = guarded.ask(path, method="DELETE", auth=token(write=["in"]), uuid="user-1")
    granted = guarded.ask(path, method="DELETE", auth=token(delete=["in"]), uuid="user-1")

    assert (plain.status, granted.status) == (403, 200)


def test_what_needs_no_token(guarded: Net) -> None:
    """Time, heartbeat, leave and where-now are free; the view over all channels is nobody's."""
    base = "/v2/presence/sub-key/sub-test"

    free = ["/time/0", f"{base}/channel/in/heartbeat", f"{base}/channel/in/leave", f"{base}/uuid/user-1"]

    assert [guarded.ask(path, uuid="user-1").status for path in free] == [200] * 4
    assert guarded.ask(base, uuid="user-1", auth=token()).status == 403


def test_many_tokens_are_all_remembered_or_checked_again(guarded: Net) -> None:
    """More tokens than are remembered at once go on working."""
    tokens = [token(ttl_minutes=100 + number) for number in range(1100)]
    manager = guarded.network._access
    assert manager is not None
    for each in tokens:
        guarded.loop.call(manager.demand, each, "user-1", ["in"], 1)

    assert subscribe(guarded, "in", auth=tokens[0]).status == 200
    assert subscribe(guarded, "in", auth=tokens[-1]).status == 200


@pytest.mark.parametrize("minutes", [0, 43_201])
def test_time_to_live_has_bounds(minutes: int) -> None:
    """A token lives one minute to thirty days."""
    with pytest.raises(ValueError, match="ttl_minutes"):
        token(ttl_minutes=minutes)


def test_a_token_ends_with_its_key() -> None:
    """A token behind a key that was taken back is refused at the next request, one behind another key is not."""
    revoked: set[str] = set()
    manager = AccessManager(lambda: [SECRET], lambda: NOW, revoked)
    one, other = token(key="key_1"), token(key="key_2")
    manager.demand(one, "user-1", ["in"], READ)
    revoked.add("key_1")

    manager.demand(other, "user-1", ["in"], READ)
    with pytest.raises(Denied, match="revoked"):
        manager.demand(one, "user-1", ["in"], READ)
