"""[K8] Links in the wrong hands: tokens of others, tasks never offered, frames out of order, too large, too many."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest
from support_link import Bare, bare
from support_probes import World
from websockets.exceptions import ConnectionClosed, InvalidStatus

from blocks_worker.protocol.codec import MAX_BODY
from blocks_worker.protocol.link import LINK_PATH, MAX_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support_probes import Arena

#: What a link is opened with that opens none.
NO_TOKENS = [
    "key",
    "consumer refresh",
    "instance refresh",
    "session grant",
    "control grant",
    "task grant",
    "stream grant",
    "message key",
    "lease",
    "upload address",
    "key id",
]


@pytest.fixture
def link(stage: Arena, bob: World) -> Iterator[Bare]:
    """Give a link of the attacker, with his tokens named: 1 instance, 2 consumer, 3 grant of his session, 4 key."""
    with bare(stage.hub, bob.instance) as opened:
        held = [bob.instance, bob.consumer, bob.login["pamToken"], bob.key]
        opened.say(*(["token", number, token] for number, token in enumerate(held, 1)))
        yield opened


def _asked(link: Bare, method: str, path: str, token: int, body: Any = None) -> tuple[int, Any]:
    """Ask something; return status and body of its answer."""
    link.say(["ask", 99, method, path, token, body])
    _, number, status, answer, *_ = link.hear("answer")
    assert number == 99
    return status, answer


def _lives(link: Bare) -> None:
    """Have the link answer, which it does only when it goes on."""
    link.say(["where", 5])
    assert link.hear("answer")[1:3] == [5, 200]


def _recorded(stage: Arena, **told: Any) -> None:
    """Have one of the new records say this."""
    records = stage.refusals.new()
    assert any(told.items() <= record.items() for record in records), (told, records)


# ------------------------------------------------------------------------------------------------ hello
@pytest.mark.parametrize("kind", NO_TOKENS)
def test_another_credential_opens_no_link(stage: Arena, ann: World, kind: str) -> None:
    """[K8] [K2] Only access tokens do: 401 before anything is carried, with a record."""
    stage.refusals.new()

    with pytest.raises(InvalidStatus) as refused, bare(stage.hub, ann.credentials()[kind]):
        pass

    assert refused.value.response.status_code == 401
    _recorded(stage, route=LINK_PATH, status=401)


@pytest.mark.parametrize("kind", ["consumer", "instance"])
def test_an_access_token_opens_a_link(stage: Arena, ann: World, kind: str) -> None:
    """The very handshake of the probes is taken when the right token comes along."""
    with bare(stage.hub, ann.credentials()[kind]) as opened:
        _lives(opened)


def test_the_token_of_a_link_is_lent_to_no_call(stage: Arena, link: Bare, ann: World) -> None:
    """[K8] A call counts by the token that it names: none, one never named, or one of another link is nobody's."""
    with bare(stage.hub, ann.consumer) as hers:
        hers.say(["token", 7, ann.consumer])
        assert _asked(hers, "GET", f"/api/v1/tasks/{ann.task}", 7)[0] == 200

        for number in (0, 7, 2**62):
            stage.refusals.new()
            assert _asked(link, "GET", f"/api/v1/tasks/{ann.task}", number)[0] == 401
            _recorded(stage, status=401, code="TokenMissing")
    _lives(link)


def test_a_link_carries_no_one_into_anothers_incarnation(stage: Arena, link: Bare, ann: World, bob: World) -> None:
    """[K8] To connect as somebody else's agent is refused, and his instance goes on."""
    connect = {"agentName": ann.agent, "instanceId": ann.instance_id, "incarnation": f"{ann.agent}-life-1"}
    stage.refusals.new()

    status, answer = _asked(link, "POST", "/api/v1/auth/agent/connect", 4, connect)

    assert (status, answer["code"]) == (409, "AgentNameReserved")
    _recorded(stage, status=409, code="AgentNameReserved")
    held = {"held": [{"taskId": ann.task, "epoch": ann.turn["epoch"]}]}
    assert stage.hub.ask("POST", "/api/v1/heartbeats", held, bearer=ann.instance).json["fenced"] == []
    mine = {"agentName": f"{bob.agent}_two", "instanceId": f"{bob.agent}-2", "incarnation": "another"}
    assert _asked(link, "POST", "/api/v1/auth/agent/connect", 4, mine)[0] == 200


# ------------------------------------------------------------------------------------------------ never offered
#: What is said of a task that is not the speaker's: the call and its body, made of the victim and of the attacker.
NEVER_OFFERED: dict[str, Callable[[World, World], tuple[str, Any]]] = {
    "a claim": lambda ann, _: ("claims", {"taskId": ann.task, "epoch": ann.turn["epoch"]}),
    "a claim of the next epoch": lambda ann, _: ("claims", {"taskId": ann.task, "epoch": ann.turn["epoch"] + 1}),
    "a claim of nothing": lambda _, __: ("claims", {"taskId": "no-such-task", "epoch": 1}),
    "a claim of what ended": lambda _, bob: ("claims", {"taskId": bob.failed, "epoch": 1}),
    "a report with its lease": lambda ann, _: ("reports", ann.report()),
    "a report with his own lease": lambda ann, bob: ("reports", ann.report(lease=bob.lease)),
    "an end with its lease": lambda ann, _: (
        "reports",
        ann.report(outcome={"state": "completed", "lastN": 0, "digest": "d" * 64}),
    ),
    "a give back": lambda ann, _: ("reports", ann.report(release=True)),
    "a report of nothing": lambda ann, _: ("reports", ann.report(taskId="no-such-task")),
    "a late report": lambda ann, _: ("reports/late", {"incarnation": f"{ann.agent}-life-1", "report": ann.report()}),
}


@pytest.mark.parametrize("name", NEVER_OFFERED)
def test_what_was_never_offered_is_not_taken(stage: Arena, link: Bare, ann: World, bob: World, name: str) -> None:
    """[K8] [K3] Whoever says it is told that he is fenced, a record is left, and the task stands as it stood."""
    path, body = NEVER_OFFERED[name](ann, bob)
    before = ann.row()
    stage.refusals.new()

    status, answer = _asked(link, "POST", f"/api/v1/{path}", 4 if path.endswith("late") else 1, body)

    assert (status, answer["state"]) == (409, "failed" if name == "a claim of what ended" else "fenced")
    _recorded(stage, status=409, route=f"/api/v1/{path}")
    assert ann.row() == before


def test_a_refusal_of_what_was_never_offered_changes_nothing(link: Bare, ann: World) -> None:
    """[K8] Somebody's refusal may come late, so it is heard out; what is another's stays with him."""
    before = ann.row()

    said = {"taskId": ann.task, "epoch": ann.turn["epoch"], "nack": "busy"}
    status, answer = _asked(link, "POST", "/api/v1/claims", 1, said)

    assert (status, answer["lease"]) == (200, "")
    assert ann.row() == before


def test_what_was_offered_is_taken(stage: Arena, ann_key: str) -> None:
    """The very reports of the probes are taken over a link from who holds the task."""
    world = World(stage, ann_key)
    with bare(stage.hub, world.instance) as opened:
        opened.say(["token", 1, world.instance])
        event = {"n": 1, "body": {"type": "progress", "progress": 0.5}}
        assert _asked(opened, "POST", "/api/v1/reports", 1, world.report(events=[event]))[0] == 200
        end = world.report(outcome={"state": "completed", "lastN": 1, "digest": "d" * 64})
        assert _asked(opened, "POST", "/api/v1/reports", 1, end)[0] == 200
    assert world.row()["state"] == "completed"


# ------------------------------------------------------------------------------------------------ frames
#: Frames that no client says; a link that hears one ends with 4400.
NO_FRAMES: dict[str, bytes | str] = {
    "a word of the hub": b'[["followed",1,1,"life",1,[]]]',
    "an answer nobody asked for": b'[["answer",1,200,{}]]',
    "a beat": b'[["beat"]]',
    "an unknown word": b'[["hello","v2"]]',
    "too few fields": b'[["ask",1,"GET"]]',
    "a negative number": b'[["taken",1,-1,-1]]',
    "a number beyond all": b'[["where",99999999999999999999]]',
    "a list as a path": b'[["ask",1,"GET",["/livez"],1,null]]',
    "an object": b'{"ask":1}',
    "nothing": b"",
    "text": '[["where",1]]',
    "UTF-16": '[["where",1]]'.encode("utf-16"),
    "a mark before it": b'\xef\xbb\xbf[["where",1]]',
    "depth": b"[" * 100_000,
    "half": b'[["where",1',
    "a good one before it": b'[["where",1],["nope"]]',
}


@pytest.mark.parametrize("name", NO_FRAMES)
def test_what_is_no_frame_is_recorded_and_ends_the_link(stage: Arena, link: Bare, bob: World, name: str) -> None:
    """[K8] [H6] It ends with 4400, the record says whose it was, and another link of the same owner is served."""
    stage.refusals.new()

    link.socket.send(NO_FRAMES[name])

    assert link.closed_with() == 4400
    _recorded(stage, code="BadFrame", route=LINK_PATH, by="bob")
    with bare(stage.hub, bob.consumer) as another:
        _lives(another)


def test_frames_out_of_order_are_worth_nothing(stage: Arena, link: Bare, bob: World) -> None:
    """[K8] What was never begun is left aside, a call before its token is nobody's; the link goes on."""
    stage.refusals.new()
    link.say(
        ["leave", 9], ["taken", 9, 5, 5], ["ask", 50, "GET", "/api/v1/tasks", 60, None], ["token", 60, bob.consumer]
    )
    assert link.hear("answer")[1:3] == [50, 401]
    _recorded(stage, status=401)

    assert _asked(link, "GET", "/api/v1/tasks", 60)[0] == 200


def test_events_out_of_order_are_told_what_comes_next(stage: Arena, ann_key: str) -> None:
    """[K8] A report that leaves out events is not taken, and says which number is."""
    world = World(stage, ann_key)
    with bare(stage.hub, world.instance) as opened:
        opened.say(["token", 1, world.instance])
        events = [{"n": n, "body": {"type": "progress", "progress": 0.5}} for n in (1, 2, 3)]
        status, answer = _asked(opened, "POST", "/api/v1/reports", 1, world.report(events=events[1:]))
        assert (status, answer["expectedN"]) == (422, 1)
        assert world.row()["lastN"] == 0
        assert _asked(opened, "POST", "/api/v1/reports", 1, world.report(events=events))[0] == 200
    assert world.row()["lastN"] == 3


# ------------------------------------------------------------------------------------------------ too large, too many
def test_a_body_beyond_the_limit_is_refused_and_the_link_goes_on(stage: Arena, link: Bare, bob: World) -> None:
    """[K8] One byte over 1 MiB is 413 with a record; a body below is taken."""
    stage.hub.ask("POST", "/api/v1/registry/agents", {"agentName": f"{bob.agent}_idle"}, bearer=bob.consumer)
    frame = {"agentName": f"{bob.agent}_idle", "requestSummary": ""}
    room = MAX_BODY - len(json.dumps(frame))
    stage.refusals.new()

    assert _asked(link, "POST", "/api/v1/tasks", 2, {**frame, "requestSummary": "x" * (room + 1)})[0] == 413

    _recorded(stage, status=413, route="/api/v1/tasks")
    assert _asked(link, "POST", "/api/v1/tasks", 2, {**frame, "requestSummary": "x" * (room - 4096)})[0] == 201


def test_a_frame_beyond_the_limit_ends_the_link(stage: Arena, link: Bare, bob: World) -> None:
    """[K8] It is not gathered: the link ends, with 1009 where that gets here, and the hub serves the next one."""
    with bare(stage.hub, bob.consumer) as another:
        another.socket.send(b" " * (MAX_FRAME - 20) + b'[["where",5]]')
        assert another.hear("answer")[1:3] == [5, 200]

    with contextlib.suppress(ConnectionClosed):  # the hub may have seen enough before all of it was sent
        link.socket.send(b" " * (MAX_FRAME + 1))

    # What the hub leaves unread has the kernel reset the connection, which may overtake the code.
    assert link.closed_with() in {1009, 1006}
    with bare(stage.hub, bob.consumer) as another:
        _lives(another)


def test_a_flood_of_pings_keeps_nobody_else_waiting(stage: Arena, link: Bare, ann: World) -> None:
    """[K8] While one link pings thousands of times, another's question is answered within a second."""
    with bare(stage.hub, ann.consumer) as other:
        took = []
        for _ in range(20):
            waiting = [link.socket.ping() for _ in range(250)]
            asked = time.monotonic()
            _lives(other)
            took.append(time.monotonic() - asked)
            assert waiting[-1].wait(30)
    assert statistics.median(took) < 1, took
    _lives(link)


def test_a_flood_of_calls_on_one_link_keeps_nobody_else_waiting(stage: Arena, link: Bare, ann: World) -> None:
    """[K8] Calls of one link wait for each other, not for those of others; every one is answered."""
    link.say(*(["ask", number, "GET", "/api/v1/tasks", 2, None] for number in range(1000, 2000)))
    with bare(stage.hub, ann.consumer) as other:
        begun, took = time.monotonic(), []
        for _ in range(5):
            asked = time.monotonic()
            _lives(other)
            took.append(time.monotonic() - asked)
    answers = {link.hear("answer")[1] for _ in range(1000)}
    assert answers == set(range(1000, 2000))
    assert statistics.median(took) < max(1.0, (time.monotonic() - begun) / 4), took


# ------------------------------------------------------------------------------------------------ channels
#: Channels that are not the attacker's, each made of the victim.
FOREIGN: dict[str, Callable[[World], str]] = {
    "session": lambda ann: str(ann.login["sessionChannel"]),
    "control": lambda ann: str(ann.connected["controlChannel"]),
    "task": lambda ann: str(ann.read_grant["channel"]),
    "stream": lambda ann: str(ann.streams["streams"][0]["channel"]),
    "stream back": lambda ann: f"{ann.streams['streams'][0]['channel']}.up",
    "presence": lambda ann: f"{ann.login['sessionChannel']}-pnpres",
    "all": lambda _: "*",
    "all sessions": lambda _: "session.*",
    "all agents": lambda _: "agent.>",
    "nobody's": lambda _: "a",
    "inbox": lambda _: "_INBOX.>",
}


def _bobs(stage: Arena, bob: World) -> tuple[str, str, str]:
    """Return the keyset, the attacker's name there, and his own channel."""
    key = stage.hub.ask("GET", "/api/v1/cdm").json["playground"]["subscribeKey"]
    return key, bob.session, str(bob.login["sessionChannel"])


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_channel_is_followed_by_nobody(stage: Arena, link: Bare, ann: World, bob: World, name: str) -> None:
    """[K8] [K6] It is denied with a record, and his own beside it is followed."""
    key, user, own = _bobs(stage, bob)
    channel = FOREIGN[name](ann)
    stage.refusals.new()

    link.say(["follow", 1, 1, key, user, 3, "", {own: 0, channel: 0}])

    assert link.hear("followed")[1:3] == [1, 1]
    assert link.hear("denied")[1:4] == [1, 1, [channel]]
    _recorded(stage, code="ChannelForbidden", act="follow", by="bob", channels=[channel])


@pytest.mark.parametrize("name", FOREIGN)
def test_on_a_foreign_channel_says_nobody_anything(stage: Arena, link: Bare, ann: World, bob: World, name: str) -> None:
    """[K8] [K7] A forged offer, event or frame is 403 with a record; his own grant lets him read, not write."""
    key, user, _ = _bobs(stage, bob)
    channel = FOREIGN[name](ann)
    stage.refusals.new()

    link.say(["publish", 6, key, user, 3, channel, {"v": 1, "from": "hub", "n": 1, "b": [{"type": "terminal"}]}])

    assert link.hear("answer")[1:3] == [6, 403]
    _recorded(stage, code="ChannelForbidden", act="publish", by="bob", channels=[channel])


def test_the_grant_of_another_is_bound_to_his_name(stage: Arena, link: Bare, ann: World, bob: World) -> None:
    """[K8] Even with the victim's grant in hand the attacker's name does not do; the victim's own does."""
    key, user, _ = _bobs(stage, bob)
    channel = str(ann.login["sessionChannel"])
    link.say(["token", 20, ann.login["pamToken"]], ["follow", 1, 1, key, user, 20, "", {channel: 0}])
    assert link.hear("denied")[2:4] == [1, [channel]]
    _recorded(stage, code="ChannelForbidden", act="follow", by="bob", reason="Token is not for this uuid.")

    with bare(stage.hub, ann.consumer) as hers:
        hers.say(["token", 1, ann.login["pamToken"]], ["follow", 1, 1, key, ann.session, 1, "", {channel: 0}])
        assert hers.hear("followed")[1:3] == [1, 1]


def test_the_agents_side_of_his_own_stream_may_be_written(stage: Arena, link: Bare, bob: World) -> None:
    """The very publish of the probes is taken where the grant is for it."""
    key, _, _ = _bobs(stage, bob)
    link.say(["token", 30, bob.streams["token"]])
    channel = bob.streams["streams"][0]["channel"]
    link.say(["publish", 6, key, bob.streams["userId"], 30, channel, {"v": 1, "from": "p", "n": 1, "b": [{}]}])
    assert link.hear("answer")[1:3] == [6, 200]


# ------------------------------------------------------------------------------------------------ addresses
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/tasks/../auth/keys", 404),
        ("GET", "//api/v1/tasks", 404),
        ("GET", "http://127.0.0.1/api/v1/tasks", 404),
        ("get", "/api/v1/tasks", 405),
        ("CONNECT", "/api/v1/tasks", 405),
        ("POST", LINK_PATH, 404),
        ("GET", "", 404),
        ("GET", "/metrics", 404),
        ("PUT", "/api/v1/files/uploads/x", 404),
        ("GET", "/api/v1/files/x", 404),
        ("GET", "/_ctl", 404),
    ],
)
def test_a_bent_address_leads_nowhere(stage: Arena, link: Bare, method: str, path: str, status: int) -> None:
    """[K8] [K10] What a link carries is found by its very address, or not at all; a record is left."""
    stage.refusals.new()

    assert _asked(link, method, path, 2)[0] == status

    _recorded(stage, status=status)
    assert _asked(link, "GET", "/api/v1/tasks", 2)[0] == 200


@pytest.mark.parametrize(
    "body", ['{"agentName":"a","agentName":"b"}', '{"agentName":"a","deadline":1e999}', "[" * 65 + "]" * 65]
)
def test_a_body_is_looked_at_as_over_http(stage: Arena, link: Bare, body: str) -> None:
    """[K8] [H5] Doubled keys, numbers beyond all and depth are 400, with a record."""
    stage.refusals.new()

    link.socket.send(f'[["ask",99,"POST","/api/v1/tasks",2,{body}]]'.encode())

    _, _, status, answer, *_ = link.hear("answer")
    refused = answer if status == 400 else answer[0]["body"]
    assert refused["code"] == "InvalidInput"
    _recorded(stage, status=400, code="InvalidInput")
