"""[K6] [K7] The network: who hears and who speaks on which channel, and what is forged there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from support_probes import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_probes import Arena

READS = ["subscribe", "history", "counts", "present"]
WRITES = ["publish", "signal"]
#: Who asks, by the grant he holds: the grant, and his user id.
HOLDERS: dict[str, Callable[[World], tuple[str, str]]] = {
    "instance": lambda w: (str(w.connected["pamToken"]), w.instance_id),
    "consumer": lambda w: (str(w.login["pamToken"]), w.session),
    "task reader": lambda w: (str(w.read_grant["pamToken"]), "anybody"),
    "stream": lambda w: (str(w.streams["token"]), str(w.streams["userId"])),
    "handed out": lambda w: (str(w.streams["streams"][0]["consumerToken"]), "anybody"),
}
#: Where his own is; what he may do there, by holder.
OWN: dict[str, tuple[Callable[[World], str], list[str]]] = {
    "instance": (lambda w: str(w.connected["controlChannel"]), READS),
    "consumer": (lambda w: str(w.login["sessionChannel"]), READS),
    "task reader": (lambda w: str(w.read_grant["channel"]), READS),
    "stream": (lambda w: str(w.streams["streams"][0]["channel"]), WRITES),
    "handed out": (lambda w: str(w.streams["streams"][0]["channel"]), READS),
}
#: One line a channel that is nobody's but another's, or that no grant may name; `a` is attacked, `b` attacks.
FOREIGN: dict[str, Callable[[World, World], str]] = {
    "control": lambda a, _: str(a.connected["controlChannel"]),
    "session": lambda a, _: str(a.login["sessionChannel"]),
    "task": lambda a, _: str(a.read_grant["channel"]),
    "stream": lambda a, _: str(a.streams["streams"][0]["channel"]),
    "stream up": lambda a, _: str(a.streams["streams"][0]["channel"]) + ".up",
    "wake of an instance": lambda a, _: f"w.{a.instance_id}",
    "wake of a session": lambda a, _: f"w.{a.session}",
    "every control": lambda _a, _b: "agent.*.control",
    "every agent": lambda _a, _b: "agent.*",
    "every session": lambda _a, _b: "session.*",
    "every task of an owner": lambda _a, _b: "u.ann.*",
    "everything": lambda _a, _b: "*",
    "presence of a control": lambda a, _: f"{a.connected['controlChannel']}-pnpres",
    "presence of one's own": lambda _, b: f"{b.connected['controlChannel']}-pnpres.x",
    "NATS inbox": lambda _a, _b: quote("_INBOX.>", safe=""),
    "JetStream": lambda _a, _b: quote("$JS.API.INFO", safe=""),
    "system": lambda _a, _b: quote("$SYS.>", safe=""),
    "encoded": lambda a, _: "%" + f"{ord('a'):02X}" + str(a.connected["controlChannel"])[1:],
    "with a blank": lambda a, _: f"{a.connected['controlChannel']}%20",
    "in capitals": lambda a, _: str(a.login["sessionChannel"]).upper(),
    "with NUL": lambda a, _: f"{a.login['sessionChannel']}%00",
    "a comma within": lambda a, b: f"{b.login['sessionChannel']}%2C{a.login['sessionChannel']}",
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_ones_own_channel_is_open(stage: Arena, ann: World, holder: str) -> None:
    """The very acts of the probes are done on the channel that the grant is for."""
    channel, acts = OWN[holder]

    assert {stage.network(act, channel(ann), *HOLDERS[holder](ann)).status for act in acts} == {200}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_channel_is_closed(stage: Arena, ann: World, bob: World, name: str, holder: str) -> None:
    """[K6] Neither heard nor spoken on, nor looked at, by any way in; each refusal leaves a record."""
    channel = FOREIGN[name](ann, bob)
    grant, user = HOLDERS[holder](bob)
    # The other ways in stand with the three of them in the next test: of one code so many records a minute are written.
    for act in ("subscribe", "history", "publish"):
        stage.refusals.new()
        answered = stage.network(act, channel, grant, user)
        records = stage.refusals.new()
        assert answered.status in {400, 403}, (act, answered)
        if answered.status == 403:
            assert [(line["code"], line["user"]) for line in records] == [("ChannelForbidden", user)]


@pytest.mark.parametrize("act", [*READS, *WRITES, "delete"])
@pytest.mark.parametrize("name", ["control", "session", "task", "stream", "wake of a session"])
def test_no_other_way_leads_there(stage: Arena, ann: World, bob: World, name: str, act: str) -> None:
    """[K6] History, counts, presence, signals and deletion ask for the same right."""
    assert stage.network(act, FOREIGN[name](ann, bob), *HOLDERS["consumer"](bob)).status == 403


@pytest.mark.parametrize("act", [*READS, *WRITES, "delete"])
@pytest.mark.parametrize("grant", ["none", "another user's", "of a key", "access token", "other network"])
def test_a_grant_is_its_users_own(stage: Arena, ann: World, bob: World, grant: str, act: str) -> None:
    """[K6] Without a grant, with somebody else's, or with another credential one's own channel is closed too."""
    held = {
        "none": None,
        "another user's": bob.login["pamToken"],
        "of a key": ann.key,
        "access token": ann.consumer,
        "other network": ann.login["pamToken"],
    }[grant]
    user = bob.session if grant == "other network" else ann.session

    assert stage.network(act, str(ann.login["sessionChannel"]), held, user).status == 403


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("where", ["control", "session", "task"])
def test_nobody_but_the_hub_speaks_there(stage: Arena, ann: World, holder: str, where: str) -> None:
    """[K7] Forged offers, cancels, pauses and ends are not even heard: their own readers may not write there."""
    channel = FOREIGN[where](ann, ann)
    forged = [
        {"type": "StartTask", "taskId": ann.task, "epoch": 2},
        {"type": "CancelTask", "taskId": ann.task, "epoch": ann.turn["epoch"]},
        {"type": "PauseTask", "taskId": ann.task, "epoch": ann.turn["epoch"], "pauseSeq": 9},
        {"type": "terminal", "taskId": ann.task, "epoch": ann.turn["epoch"], "seq": 9, "state": "completed"},
    ]
    grant, user = HOLDERS[holder](ann)
    for message in forged:
        envelope = json.dumps({"v": 1, "from": "hub", "n": 1, "b": [message]})
        for act in WRITES:
            assert stage.network(act, channel, grant, user, envelope).status == 403
    assert (ann.row()["state"], ann.row()["cancelRequested"]) == ("running", False)


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_was_published_is_deleted_by_nobody(stage: Arena, ann: World, holder: str) -> None:
    """[K6] No grant of the hub's gives the right to delete, on one's own channel neither."""
    channel, _ = OWN[holder]

    assert stage.network("delete", channel(ann), *HOLDERS[holder](ann)).status == 403


def test_a_grant_ends_with_its_key(stage: Arena) -> None:
    """[K6] Once the key is revoked, every grant that was given for it is refused with the next request."""
    world = World(stage, stage.owner("emil"))
    keys = stage.hub.ask("GET", "/api/v1/auth/keys", bearer=world.key).json["keys"]
    (made,) = [row["id"] for row in keys if row["name"] == "test"]
    channels = {holder: channel(world) for holder, (channel, _) in OWN.items()}
    before = [stage.network(OWN[who][1][0], channels[who], *HOLDERS[who](world)).status for who in HOLDERS]
    stage.hub.ask("DELETE", f"/api/v1/auth/keys/{made}", bearer=stage.hub.key)

    after = [stage.network(OWN[who][1][0], channels[who], *HOLDERS[who](world)).status for who in HOLDERS]

    assert (set(before), set(after)) == ({200}, {403})


def test_all_that_was_heard_and_is_said_again_does_nothing(stage: Arena, ann_key: str) -> None:
    """[K7] Every signed message of a control channel, published again by who can, is refused by who reads it. [G4]

    Within the number window each passes once; what is older is refused; another key opens none.
    """
    from blocks_worker.errors import InvalidMessageError
    from blocks_worker.protocol.control import open_signed
    from blocks_worker.worker.replay import ReplayWindow

    world = World(stage, ann_key)
    grant, user = HOLDERS["instance"](world)
    heard = stage.network("subscribe", str(world.connected["controlChannel"]), grant, user)
    keys = stage.hub.ask("GET", "/api/v1/cdm").json["playground"]["subscribeKey"]
    path = f"/v2/subscribe/{keys}/{world.connected['controlChannel']}/0?tt=1&uuid={user}&auth={grant}"
    answer = stage.hub.pool.request("GET", stage.hub.address.origin + path, timeout=20.0).json()
    bodies = [body for message in answer["m"] for body in message["d"]["b"]]
    key, window = str(world.connected["messageKey"]), ReplayWindow()

    first = [window.is_new(open_signed(body, key)[0]) for body in bodies]
    again = [window.is_new(open_signed(body, key)[0]) for body in bodies]

    assert heard.status == 200
    assert (len(bodies) > 2, set(first), set(again)) == (True, {True}, {False})
    for body in bodies:
        for spoilt in (
            {**body, "sequence": body["sequence"] + 1},
            {**body, "control": body["control"].replace(world.task, world.failed) + " "},
            {**body, "signature": body["signature"][::-1]},
            {**body, "signature": ""},
        ):
            with pytest.raises(InvalidMessageError):
                open_signed(spoilt, key)
        with pytest.raises(InvalidMessageError):
            open_signed(body, World(stage, ann_key).connected["messageKey"] if body is bodies[0] else "another")
