"""The link to a hub: who gets one, what it carries, and how it ends; a bare client speaks the frames itself."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from localnet import KEYS
from support import LoopThread, wait_until
from support_hub import Caller, running_hub
from support_link import Bare, Bearer, LinkNet, bare, link_net
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.sync.client import connect

from blocks_worker import AgentInstanceOptions, TaskClient, start_agent_instance
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.errors import ConfigurationError
from blocks_worker.protocol.chunks import RAW, RawFrame, bundles, open_bundle, read_brought, spoken
from blocks_worker.protocol.link import AHEAD_MESSAGES
from blocks_worker.transports.hublink.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Run one hub for all."""
    with running_hub(tmp_path_factory.mktemp("hub"), transport="hublink") as caller:
        yield caller


@pytest.mark.parametrize("bearer", ["", "junk", "bk_a-key-is-no-token"])
def test_who_has_no_token_gets_no_link(hub: Caller, bearer: str) -> None:
    """The handshake is refused as a call would be."""
    with pytest.raises(InvalidStatus) as refused, bare(hub, bearer):
        pass
    assert refused.value.response.status_code == 401


def test_a_page_of_another_site_gets_no_link(hub: Caller) -> None:
    """A browser tells where a page is from, and the hub looks."""
    with pytest.raises(InvalidStatus) as refused, bare(hub, Origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403


def test_a_call_is_answered_as_over_http(hub: Caller) -> None:
    """The same statuses and bodies, for tokens of others too, and many at the same time."""
    hub.connect("linked", billingMode="free")
    token = hub.consumer()["accessToken"]
    with bare(hub, token) as link:
        link.say(
            ["token", 1, token],
            ["token", 2, "junk"],
            ["ask", 1, "POST", "/api/v1/tasks", 1, {"agentName": "linked"}],
            ["ask", 2, "GET", "/api/v1/tasks?limit=1", 1, None],
            ["ask", 3, "GET", "/api/v1/tasks", 2, None],
            ["ask", 4, "GET", "/api/v1/tasks", 9, None],
            ["ask", 5, "GET", "/api/v1/nowhere", 1, None],
            ["ask", 6, "GET", "/api/v1/files/abc", 1, None],
        )
        answers = {}
        while len(answers) < 6:
            _, number, status, body, *_ = link.hear("answer")
            answers[number] = (status, body)

    assert {number: status for number, (status, _) in answers.items()} == {
        1: 201,
        2: 200,
        3: 401,
        4: 401,
        5: 404,
        6: 404,
    }
    assert answers[1][1]["taskId"]
    assert answers[5][1]["code"] == "NotFound"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        b"\x01",
        b"\x01" * 100,
        b"\x02" * 100,
        b"[[]]",
        b'[["shout",1]]',
        b'[["ask",1]]',
        b'[["token",-1,"x"]]',
        b"\xff\xfe",
        b"[" * 70_000,
    ],
)
def test_what_is_no_frame_ends_the_link(hub: Caller, frame: bytes) -> None:
    """Whoever cannot be understood is told so by the code, and the hub lives on."""
    with bare(hub) as link:
        link.socket.send(frame)
        assert link.closed_with() == 4400
    assert hub.ask("GET", "/livez").status == 200


@pytest.mark.parametrize(
    "operations",
    [
        [["token", number, "t"] for number in range(1100)],
        [["follow", number, 1, "k", "u", 0, "", {}] for number in range(300)],
    ],
    ids=["tokens", "followers"],
)
def test_what_one_link_may_name_is_bounded(hub: Caller, operations: list[list[Any]]) -> None:
    """Too many tokens or followers end it."""
    with bare(hub) as link:
        link.say(*operations)
        assert link.closed_with() == 4400


def session_of(hub: Caller) -> tuple[str, dict[str, Any]]:
    """Return the subscribe key of free tasks, and a consumer's tokens."""
    key = hub.ask("GET", "/api/v1/cdm").json["playground"]["subscribeKey"]
    return key, hub.consumer()


def test_a_channel_needs_its_grant(hub: Caller) -> None:
    """Following and publishing ask for the same rights as over HTTP, for the one whom the grant names."""
    key, mine = session_of(hub)
    channel, user = mine["sessionChannel"], mine["sessionChannel"].partition(".")[2]
    with bare(hub, mine["accessToken"]) as link:
        link.say(["token", 1, mine["pamToken"]], ["follow", 1, 1, key, user, 1, "", {channel: 0, "s.foreign": 0}])
        assert link.hear("followed")[1:3] == [1, 1]
        assert link.hear("denied")[1:4] == [1, 1, ["s.foreign"]]
        for turn, (who, grant) in enumerate([("somebody", 1), (user, 0), (user, 7)], 2):
            link.say(["follow", 1, turn, key, who, grant, "", {channel: 0}])
            assert link.hear("denied")[2] == turn
        link.say(["follow", 1, 9, "sub-c-nobodys", user, 1, "", {channel: 0}])
        assert link.hear("denied")[2] == 9
        link.say(["publish", 1, key, user, 1, channel, {"v": 1}])
        assert link.hear("answer")[1:3] == [1, 403]


def test_a_key_that_is_taken_back_ends_its_links(hub: Caller) -> None:
    """Neither a link nor what it follows outlives the key behind it by more than some seconds."""
    made = hub.ask("POST", "/api/v1/auth/keys", {"name": "short"}, bearer=hub.key).json
    with bare(hub, hub.consumer(made["key"])["accessToken"]) as link:
        assert hub.ask("DELETE", f"/api/v1/auth/keys/{made['id']}", bearer=hub.key).status == 204
        assert link.closed_with() == 4401


@pytest.fixture
def net(tmp_path: Path) -> Iterator[LinkNet]:
    """Give links to a network without access control."""
    with LoopThread("links") as loop, link_net(loop, tmp_path) as made:
        yield made


def publish(net: LinkNet, *numbers: int) -> None:
    """Publish messages on channel "a", as the hub does."""

    def all_of_them() -> None:
        for number in numbers:
            net.network.publish(KEYS.subscribe_key, "a", b'{"i":%d}' % number)

    net.loop.call(all_of_them)


@contextmanager
def follower(net: LinkNet, since: int = 0, life: str = "") -> Iterator[tuple[Bare, list[Any]]]:
    """Give a link that follows channel "a", and what the hub said to that."""
    address = f"ws://127.0.0.1:{net.port}/api/v1/link"
    headers = {"Authorization": f"Bearer {net.bearer.access_token()}"}
    options: dict[str, Any] = {"compression": None, "proxy": None, "close_timeout": 0.5}
    with connect(address, additional_headers=headers, **options) as socket:
        link = Bare(socket)
        link.say(["follow", 1, 1, KEYS.subscribe_key, "u", 0, life, {"a": since}])
        yield link, link.hear("followed")


def test_who_does_not_take_is_sent_no_more_than_fits(net: LinkNet) -> None:
    """So much is sent ahead; the rest waits on the shelf until it is said what was taken, and nothing is lost."""
    sent = AHEAD_MESSAGES + 200
    with follower(net) as (link, _):
        publish(net, *range(sent))
        letters = link.letters(AHEAD_MESSAGES)
        with pytest.raises(TimeoutError):
            link.socket.recv(0.2)
        link.say(["taken", 1, len(letters), 0])
        letters += link.letters(sent - len(letters))

    assert [body["i"] for _, _, body in letters] == list(range(sent))
    assert [position for _, position, _ in letters] == sorted({position for _, position, _ in letters})


def test_who_comes_back_goes_on_where_he_was(net: LinkNet) -> None:
    """A position of the same life is gone on from; of another one, or one that is forgotten, that is said."""
    with follower(net) as (link, followed):
        life, began = followed[3], followed[4]
        publish(net, 1, 2)
        (_, place, _), _ = link.letters(2)
    publish(net, 3)

    with follower(net, place, life) as (link, followed):
        assert followed[5] == []
        assert [body["i"] for _, _, body in link.letters(2)] == [2, 3]
    with follower(net, place, "another") as (_, followed):
        assert (followed[3], followed[5]) == (life, ["a"])
    net.loop.call(setattr, net.network, "settings", replace(net.network.settings, history_limit=2))
    publish(net, 4, 5)
    with follower(net, began, life) as (link, followed):
        assert followed[5] == ["a"]
        assert [body["i"] for _, _, body in link.letters(2)] == [4, 5]


def test_who_reads_nothing_at_all_loses_the_link(tmp_path: Path) -> None:
    """What waits for a client is bounded: beyond that the link ends, though nobody takes the word of it either."""
    with LoopThread("links") as loop, link_net(loop, tmp_path, unsent=200_000) as net:
        with follower(net) as (link, _):
            # Together they are sent more than what lies on the way holds.
            link.say(*(["follow", number, 1, KEYS.subscribe_key, "u", 0, "", {"a": 0}] for number in range(2, 9)))
            heard = [link.hear("followed") for _ in range(7)]
            assert len(heard) == 7
            text = b'{"x":"%b"}' % (b"x" * 25_000)
            for _ in range(300):
                net.loop.call(net.network.publish, KEYS.subscribe_key, "a", text)
            wait_until(lambda: not net.loop.call(lambda: net.network.first_realm.followers), what="the end of the link")
        with follower(net) as (link, _):
            publish(net, 7)
            assert [body["i"] for _, _, body in link.letters(1)] == [7]


def test_what_is_forgotten_before_it_is_sent_is_said_to_be_lost(net: LinkNet) -> None:
    """A reader that takes nothing while the shelf forgets hears between which positions."""
    net.loop.call(setattr, net.network, "settings", replace(net.network.settings, history_limit=50))
    with follower(net) as (link, _):
        publish(net, *range(50))
        link.letters(50)
        publish(net, *range(50, 150))
        _, number, channel, since, until = link.hear("lost")
        letters = link.letters(50)

    assert (number, channel) == (1, "a")
    assert since < until < letters[0][1]
    assert [body["i"] for _, _, body in letters] == list(range(100, 150))


@pytest.fixture
def linked(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskClient]:
    """Serve an agent over a link, and give a client that has one too."""
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
    monkeypatch.setenv("BLOCKS_CDM_URL", hub.address.url + "/api/v1/cdm")
    options = AgentInstanceOptions(agent_name="over_a_link", handler=lambda task: task.text()[::-1], concurrency=4)
    with start_agent_instance(options) as instance:
        instance.wait_ready(20)
        with TaskClient.create("free") as client:
            yield client


def asked(hub: Caller) -> float:
    """Return how many tasks were asked for at the hub's door, by whatever carried them."""
    lines = hub.ask("GET", "/metrics").body.decode().splitlines()
    counted = [
        line for line in lines if line.startswith("blocks_hub_http_request_seconds_count") and '"/api/v1/tasks"' in line
    ]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted)


def test_all_goes_over_the_link(hub: Caller, linked: TaskClient) -> None:
    """Where the document says so, tasks are asked for, run and told without a poll or a request over HTTP."""
    linked.run("over_a_link", "warm")
    before, threads = asked(hub), {thread.name for thread in threading.enumerate()}
    assert [linked.run("over_a_link", f"{number}").text for number in range(20)] == [str(n)[::-1] for n in range(20)]

    assert asked(hub) == before + 20
    assert "hub-link" in threads
    # What an earlier test left behind may take a moment to end.
    wait_until(lambda: not any(one.name.startswith("pubnub") for one in threading.enumerate()), what="no poll")


def links_besides(before: set[threading.Thread]) -> int:
    """Return how many threads of links there are that were not there before."""
    return sum(thread.name == "hub-link" and thread not in before for thread in threading.enumerate())


def test_no_thread_of_a_link_stays(hub: Caller, linked: TaskClient) -> None:
    """A client that is destroyed ends its link; one that was only forgotten too."""
    before = set(threading.enumerate())
    with TaskClient.create("free", cdm_url=hub.address.url + "/api/v1/cdm", api_key=hub.key) as client:
        assert client.run("over_a_link", "ab").text == "ba"
        assert links_besides(before) == 1
    wait_until(lambda: not links_besides(before), what="the link's end")
    assert linked.run("over_a_link", "cd").text == "dc"


def test_a_transport_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's word is one of two, and the text names them."""
    monkeypatch.setenv("BLOCKS_TRANSPORT", "pigeon")
    with pytest.raises(ConfigurationError, match="pubnub, hublink"):
        TaskClient.create("free", api_key="k")


def test_a_client_may_choose_its_transport(hub: Caller, linked: TaskClient) -> None:
    """What the caller says wins over the document: a client without a link beside one that has it."""
    address = hub.address.url + "/api/v1/cdm"
    before = set(threading.enumerate())
    for transport, links in (("pubnub", 0), ("hublink", 1)):
        with TaskClient.create("free", cdm_url=address, api_key=hub.key, transport=transport) as client:
            assert client.run("over_a_link", "ab").text == "ba"
            assert links_besides(before) == links
        wait_until(lambda: not links_besides(before), what="the link's end")

    with pytest.raises(ConfigurationError, match="'pubnub' and 'hublink'"):
        TaskClient.create("free", cdm_url=address, api_key=hub.key, transport="pigeon")


def pieces(form: str) -> list[Any]:
    """Return what is written to a stream: bytes that no text holds, text, and events too large for one frame."""
    if form == "events":
        return [{"i": number, "text": "é" * (200_000 if number == 1 else 10)} for number in range(3)]
    return [bytes(range(256)) * 1000, "Grüße, " * 30_000, b"end"]


@pytest.mark.parametrize("form", ["bytes", "events"])
def test_streams_travel_as_bytes(hub: Caller, linked: TaskClient, form: Any) -> None:
    """Over links a stream's bytes are never base64; who polls the network reads the very same. [D-6]"""

    def handler(_task: Any, ctx: Any) -> str:
        with ctx.create_stream(format=form) as stream:
            stream.wait_for_reader(20)
            for piece in pieces(form):
                stream.write(piece)
        return "done"

    def told(client: TaskClient) -> Any:
        with client.send_message("streaming", "x", stream=True) as session:
            stream = session.wait_for_stream(timeout=20).open()
            items = list(stream.events() if form == "events" else stream.bytes())
            assert session.wait_for_terminal(20).error is None
        return items if form == "events" else b"".join(items)

    wanted = pieces(form)
    if form == "bytes":
        wanted = b"".join(each if isinstance(each, bytes) else each.encode() for each in wanted)  # type: ignore[assignment]
    cdm = hub.address.url + "/api/v1/cdm"
    with start_agent_instance(AgentInstanceOptions(agent_name="streaming", handler=handler)) as instance:
        instance.wait_ready(20)
        with TaskClient.create("free", cdm_url=cdm, api_key=hub.key, transport="pubnub") as polling:
            assert told(linked) == wanted
            assert told(polling) == wanted


def raw(seq: int) -> RawFrame:
    """Return a frame of bytes."""
    return RawFrame(type="stream_data", stream_id="t-1", sender="s", seq=seq, encoding="base64", raw=[bytes([seq])])


def test_bytes_need_their_grant_too(hub: Caller) -> None:
    """Whoever may not publish on a channel publishes no bytes there, and what is no bundle goes to nobody. [D-6]"""
    key, mine = session_of(hub)
    channel, user = mine["sessionChannel"], mine["sessionChannel"].partition(".")[2]
    ((bundle, _),) = bundles([raw(0)], "me", 1)
    cut = [*bundle[:-1], bundle[-1][:-1]]
    with bare(hub, mine["accessToken"]) as link:
        link.say(["token", 1, mine["pamToken"]])
        for number, said, status in ((7, bundle, 403), (8, cut, 400)):
            link.socket.send(spoken(number, 1, (key, user, channel), said))
            assert link.hear("answer")[1:3] == [number, status]


def test_bytes_are_passed_on_as_they_came(net: LinkNet) -> None:
    """A follower gets the very bundle that was said, in its place between what is JSON. [D-6]"""
    writer = net.transport("writer")
    with follower(net) as (link, _):
        writer.publish("a", [{"i": 0}, {RAW: raw(1)}, {RAW: raw(2)}, {"i": 3}], Deadline(10))
        first = link.letters(1)
        middle = read_brought(link.socket.recv(10))
        last = link.letters(1)

    assert [first[0][2]["b"], last[0][2]["b"]] == [[{"i": 0}], [{"i": 3}]]
    assert open_bundle(middle.bundle)[1:] == (2, [raw(1), raw(2)])
    assert first[0][1] < middle.position < last[0][1]


def test_tasks_are_given_with_their_offers(hub: Caller, linked: TaskClient) -> None:
    """Over a link a task is taken, run and told without a claim; what may run once only is claimed. [J6]"""

    def claims() -> float:
        lines = hub.ask("GET", "/metrics").body.decode().splitlines()
        counted = [line for line in lines if line.startswith("blocks_hub_http_request_seconds_count")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in counted if '"/api/v1/claims"' in line)

    linked.run("over_a_link", "warm")
    before = claims()
    sessions = linked.send_many([{"agent_name": "over_a_link", "request_parts": f"{n}"} for n in range(30)])
    assert [session.text(20) for session in sessions] == [f"{n}"[::-1] for n in range(30)]
    assert claims() == before
    assert linked.send_message("over_a_link", "ab", delivery="at_most_once").text(20) == "ba"
    assert claims() == before + 1


def test_a_hub_that_takes_nothing_is_given_up_with_those_who_speak_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """[A3] What is sent does not fit on the way any more: who sends is let go when the hub was silent for too long."""
    monkeypatch.setattr("blocks_worker.transports.hublink.link.SILENCE", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as stack:
        port = listening.getsockname()[1]
        link = Link(
            hub_url=lambda: f"http://127.0.0.1:{port}", bearing=Bearer("t"), near=True, clock=Clock(), entropy=Entropy()
        )
        stack.callback(link.close, Deadline(20))
        link.start()
        deaf, _ = listening.accept()
        stack.enter_context(deaf)
        protocol = ServerProtocol()
        protocol.receive_data(deaf.recv(65536))
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        deaf.sendall(b"".join(protocol.data_to_send()))
        assert link.wait_there(30)

        # What comes now is read by a thread that must not wait for the one that sends.
        protocol.send_binary(b"[]")
        later = threading.Timer(1.0, deaf.sendall, [b"".join(protocol.data_to_send())])
        later.start()
        stack.callback(later.join)
        began = time.monotonic()
        assert link.call("POST", "/api/v1/tasks", json.dumps("x" * 32_000_000).encode(), None, 60) is None
        assert time.monotonic() - began < 30
