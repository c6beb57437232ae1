"""Streams as handlers and consumers use them: a hub, an agent and clients over the local network."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import running_hub
from support_streams import in_background

from blocks_worker import ExternalStreamObject, OnActivateCallback, StreamObject, TaskClient, start_agent_instance
from blocks_worker.concurrency import Clock
from blocks_worker.errors import TaskFinishedError
from blocks_worker.stream import (
    InboundMessage,
    StreamClient,
    StreamDescriptor,
    StreamError,
    StreamRef,
    StreamUnavailableError,
    invert_direction,
)
from blocks_worker.streams.packing import MAX_EVENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support_hub import Caller

    from blocks_worker.client.session import TaskSession
    from blocks_worker.runtime.instance import AgentInstance

WORD = {"type": "string", "maxLength": 10}
CARD = {
    "identity": {"agentName": "speaker", "displayName": "S", "description": "d", "version": "1"},
    "capabilities": {"taskKinds": ["request", "pipe"]},
    "streams": {
        "words": {"direction": "outbound", "format": "events", "schema": WORD},
        "raw": {"direction": "outbound", "format": "bytes"},
        "chat": {
            "direction": "bidirectional",
            "format": "events",
            "outboundSchema": WORD,
            "inboundSchema": {"type": "integer"},
        },
        "orders": {"direction": "inbound", "format": "bytes"},
        "ticks": {"direction": "outbound", "format": "bytes", "affinity": "shared"},
    },
}
PIPE: dict[str, Any] = {"task_kind": "pipe", "duration": 5}


@dataclass
class Place:
    """A running hub, two agents, and a client; `play` is what the next handler does."""

    hub: Caller
    client: TaskClient
    agent: AgentInstance
    plays: dict[str, Callable[[Any, Any], Any]]

    def send(self, play: Callable[[Any, Any], Any], agent: str = "speaker", **more: Any) -> TaskSession:
        """Send a task whose handler does this."""
        name = f"{len(self.plays)}"
        self.plays[name] = play
        return self.client.send_message(agent, name, **more)

    def network(self) -> dict[str, Any]:
        """Return what a stream needs of the network, besides its token."""
        document = self.hub.ask("GET", "/api/v1/cdm").json
        return {
            "subscribe_key": document["playground"]["subscribeKey"],
            "publish_key": document["playground"]["publishKey"],
            "origin": document["origin"],
        }


@pytest.fixture(scope="module", params=["pubnub", "hublink"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run everything for the tests of this file, over the network and over links."""
    folder = tmp_path_factory.mktemp("state")
    with running_hub(folder, transport=request.param) as hub, at(folder, hub) as place:
        yield place


@contextmanager
def at(folder: Path, hub: Caller, **client: Any) -> Iterator[Place]:
    """Run agents and a client at a hub."""
    plays: dict[str, Callable[[Any, Any], Any]] = {}

    def handler(task: Any, ctx: Any) -> Any:
        return plays[task.text()](task, ctx)

    cdm = f"{hub.address.url}/api/v1/cdm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKS_STATE_DIR", str(folder))
        patch.setenv("BLOCKS_CDM_URL", cdm)
        options = {"handler": handler, "concurrency": 16, "heartbeat_ms": 200}
        with (
            start_agent_instance({"agent_name": "speaker", "card": CARD, **options}) as agent,
            start_agent_instance({"agent_name": "plain", **options}) as plain,
            TaskClient.create("free", **client) as consumer,
        ):
            agent.wait_ready(30)
            plain.wait_ready(30)
            yield Place(hub, consumer, agent, plays)


@pytest.fixture
def place(running: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Let the environment name that hub."""
    monkeypatch.setenv("BLOCKS_CDM_URL", f"{running.hub.address.url}/api/v1/cdm")
    monkeypatch.setenv("BLOCKS_API_KEY", running.hub.key)
    return running


def completed(session: TaskSession) -> None:
    """Wait for the end of a task that has to complete."""
    terminal = session.wait_for_terminal(30)
    assert terminal.state == "completed", terminal


def refused(act: Callable[[], object]) -> str:
    """Return what a ValueError says."""
    with pytest.raises(ValueError, match=r".") as caught:
        act()
    return str(caught.value)


def refusal(work: Callable[[], Any]) -> str:
    """Return how a RuntimeError is told."""
    with pytest.raises(RuntimeError) as refused:
        work()
    return str(refused.value)


# ------------------------------------------------------------------------------------------------ what is negotiated


@pytest.mark.parametrize(
    ("agent", "stream", "expected"),
    [("speaker", None, True), ("speaker", False, False), ("speaker", True, True), ("plain", None, False)],
)
def test_streams_are_there_where_the_card_has_them(
    place: Place, agent: str, stream: bool | None, expected: bool
) -> None:
    """Told nothing, by the card; told False, never: `create_stream` then says what to look at. [D-8]"""
    seen: list[Any] = []

    def play(_task: Any, ctx: Any) -> None:
        seen.append(ctx.has_stream)
        if ctx.has_stream:
            ctx.create_stream(declared_stream="words").end()
        else:
            seen.append(refusal(ctx.create_stream))

    with place.send(play, agent, stream=stream) as session:
        completed(session)
        assert seen[0] is expected
        assert len(session.list_streams()) == int(expected)
    assert expected or "ctx.has_stream" in seen[1]


def test_an_agent_without_a_card_has_one_stream_by_wish(place: Place) -> None:
    """With `stream=True` the undeclared one is of bytes and goes out, unless the handler says otherwise. [D-8]"""
    with place.send(lambda _task, ctx: ctx.create_stream().write("x"), "plain", stream=True) as session:
        about = session.wait_for_stream(timeout=20).descriptor
        completed(session)
    assert (about.format, about.agent_direction, about.declared_stream) == ("bytes", "outbound", None)


def test_a_request_opens_every_outbound_stream_of_its_own(place: Place) -> None:
    """Several in one task, by the names of the card; what it may not have is told by stream and rule. [D-9]"""
    told: list[str] = []
    opened = threading.Event()

    def play(_task: Any, ctx: Any) -> None:
        with ctx.create_stream(declared_stream="words") as words, ctx.create_stream(declared_stream="raw") as raw:
            words.write("one")
            raw.write(b"two")
            assert opened.wait(20)
        wishes: list[dict[str, Any]] = [{"declared_stream": name} for name in ("chat", "orders", "ticks", "nothing")]
        wishes += [{}, {"declared_stream": "words", "format": "bytes"}, {"declared_stream": "words", "external": True}]
        told.extend(refusal(partial(ctx.create_stream, **wish)) for wish in wishes)

    with place.send(play) as session:
        words, raw = (session.wait_for_stream(name, 20).open() for name in ("words", "raw"))
        opened.set()
        assert (list(words.events()), list(raw.bytes())) == (["one"], [b"two"])
        completed(session)
    rules = ["'chat'.*outbound", "'orders'.*outbound", "'ticks'.*dedicated", "no stream 'nothing'", "say which"]
    for text, rule in zip(told, [*rules, "contradicts the card", "dedicated"], strict=True):
        assert re.search(rule, text), (rule, text)


def test_create_stream_does_not_sleep(place: Place) -> None:
    """It returns at once; with a grace it returns with the first reader, and at the latest when that is over. [D-11]"""
    took: list[float] = []

    def timed(ctx: Any, **how: Any) -> None:
        begun = time.monotonic()
        ctx.create_stream(**how).end()
        took.append(time.monotonic() - begun)

    def play(_task: Any, ctx: Any) -> None:
        for _ in range(5):
            timed(ctx, declared_stream="raw")
        timed(ctx, declared_stream="raw", subscribe_grace_ms=400)
        timed(ctx, declared_stream="words", subscribe_grace_ms=20_000)

    with place.send(play) as session:
        session.wait_for_stream("words", 20).open()
        completed(session)
    *at_once, graced, read = took
    # The machine may stand still in one of them, a sleep would be in all.
    assert min(at_once) < 0.35
    assert 0.39 <= graced < 10
    assert read < 15


# ------------------------------------------------------------------------------------------------ waits


def test_wait_for_stream_misses_no_announcement(place: Place) -> None:
    """Waits that begin before, while and after streams are announced all find theirs, in many tasks at once. [R-27]"""

    def play(_task: Any, ctx: Any) -> None:
        for _ in range(4):
            ctx.create_stream(declared_stream="raw").end()
        ctx.create_stream(declared_stream="words").end()

    sessions = [place.send(play) for _ in range(8)]
    waits = [
        in_background(lambda session=session, name=name: session.wait_for_stream(name, 20))  # type: ignore[misc]
        for session in sessions
        for name in (f"{session.task_id}-3", "words", f"{session.task_id}-5")
    ]
    found = [wait() for wait in waits]

    assert [type(ref) for ref in found] == [StreamRef] * len(waits), found
    for session in sessions:
        assert session.wait_for_stream_where(lambda ref: ref.descriptor.format == "events", 20).is_open is False
        assert "several streams" in refusal(lambda session=session: session.wait_for_stream(timeout=1))  # type: ignore[misc]
        completed(session)
        assert "announced no stream" in refusal(lambda session=session: session.wait_for_stream("x"))  # type: ignore[misc]
        session.close()


def test_every_wait_ends(place: Place) -> None:
    """At its timeout, and at once when the session is closed: for a stream, and for what it brings. [R-28] [R-29]"""
    go = threading.Event()

    def play(_task: Any, ctx: Any) -> None:
        ctx.create_stream(declared_stream="words")
        go.wait(30)

    session = place.send(play)
    stream = session.wait_for_stream(timeout=20).open()
    with pytest.raises(TimeoutError, match="announced no stream raw within"):
        session.wait_for_stream("raw", timeout=0.1)
    with pytest.raises(TimeoutError, match="announced no such stream within"):
        session.wait_for_stream_where(lambda _ref: False, timeout=0.1)
    waits = [
        in_background(lambda: session.wait_for_stream("raw")),
        in_background(lambda: list(stream.events())),
        in_background(lambda: list(stream.inbound)),
    ]
    session.close()

    ends = [wait(15) for wait in waits]
    assert isinstance(ends[0], RuntimeError)
    assert ends[1:] == [[], []]
    go.set()


def test_all_iterators_end_with_the_stream(place: Place) -> None:
    """Several share the items, and each ends, those that got nothing too. [R-29]"""

    def play(_task: Any, ctx: Any) -> None:
        with ctx.create_stream(declared_stream="words", subscribe_grace_ms=20_000) as stream:
            for number in range(100):
                stream.write(str(number))

    with place.send(play) as session:
        stream = session.wait_for_stream(timeout=20).open()
        waits = [in_background(lambda: list(stream.events())) for _ in range(4)]
        shared = sorted(int(item) for wait in waits for item in wait())
        completed(session)
    assert shared == list(range(100))
    assert list(stream.events()) == []
    assert not stream.is_active


# ------------------------------------------------------------------------------------------------ opening


def test_a_stream_that_was_never_opened_is_gone_with_its_task(place: Place) -> None:
    """It says so with four facts, to `except RuntimeError` too, and `open_all_streams` passes it over. [A-11]"""

    def play(_task: Any, ctx: Any) -> None:
        ctx.create_stream(declared_stream="raw").write("unread")
        ctx.create_stream(declared_stream="words", subscribe_grace_ms=20_000).write("read")

    with place.send(play) as session:
        words = session.wait_for_stream("words", 20).open()
        completed(session)
        (never,) = (ref for ref in session.list_streams() if ref.descriptor.declared_stream == "raw")
        assert session.open_all_streams() == [words]
        with pytest.raises(RuntimeError) as gone:
            never.open()
        assert list(words.events()) == ["read"]

    error = gone.value
    assert isinstance(error, StreamUnavailableError)
    facts = (error.task_id, error.stream_id, error.declared_stream, error.terminal_state)
    assert facts == (session.task_id, f"{session.task_id}-1", "raw", "completed")
    with place.client.connect(session.task_id) as late:
        assert [ref.descriptor.stream_id[-2:] for ref in late.list_streams()] == ["-1", "-2"]
        assert late.open_all_streams() == []
        with pytest.raises(StreamUnavailableError):
            late.list_streams()[0].open()


def test_a_stream_is_opened_once(place: Place) -> None:
    """`on_stream`, `wait_for_stream` and `open_all_streams` give one object for one stream, twice too. [A-12]"""
    opened: list[StreamClient] = []
    go = threading.Event()

    def play(_task: Any, ctx: Any) -> None:
        ctx.create_stream(declared_stream="words").write("one")
        ctx.create_stream(declared_stream="raw").write("two")
        go.wait(30)

    with place.send(play) as session:
        session.on_stream(lambda ref: opened.append(ref.open()))
        assert session.wait_for_stream("raw", 20).open() is not None
        wait_until(lambda: len(opened) == 2, 20, "both streams")
        words = session.wait_for_stream("words", 20).open()
        together = session.open_all_streams()

        assert together == session.open_all_streams()
        assert {id(stream) for stream in together} == {id(stream) for stream in opened}
        assert words is together[0]
        assert session.list_streams()[0].is_open
        assert next(words.events()) == "one"
        go.set()
        completed(session)
        assert list(words.events()) == []
        assert "has ended" in refusal(session.wait_for_stream("words").open)


def test_callbacks_of_streams_may_read_to_the_end(place: Place) -> None:
    """Each has a thread of its own: several read their streams at once, and the other callbacks go on. [R-51]"""
    together = threading.Barrier(3, timeout=20)
    read: dict[str, list[Any]] = {}
    progress: list[str | None] = []

    def play(_task: Any, ctx: Any) -> None:
        streams = [ctx.create_stream(declared_stream="words", subscribe_grace_ms=20_000) for _ in range(3)]
        for stream in streams:
            stream.write("begin")
        ctx.report_status("busy")
        wait_until(lambda: together.broken or len(begun) == 3, 20)
        for stream in streams:
            stream.write("end")
            stream.end()

    begun: list[str] = []

    def reads(ref: StreamRef) -> None:
        items = ref.open().events()
        first = next(items)
        together.wait()
        begun.append(ref.descriptor.stream_id)
        read[ref.descriptor.stream_id] = [first, *items]

    with place.send(play) as session:
        session.on_progress(lambda event: progress.append(event.message))
        session.on_stream(reads)
        completed(session)
        wait_until(lambda: len(read) == 3, 10, "all streams to be read")
    assert list(read.values()) == [["begin", "end"]] * 3
    assert "busy" in progress


def test_what_a_callback_raises_is_told(place: Place) -> None:
    """A callback of streams that fails is told as `onStream`, and takes nobody with it. [A-14]"""
    told: list[tuple[str, str]] = []

    def fails(_ref: StreamRef) -> None:
        raise LookupError("no")

    with place.send(lambda _task, ctx: ctx.create_stream(declared_stream="words").write("x")) as session:
        session.on_error(lambda error, about: told.append((str(error), about.callback_type)))
        session.on_stream(fails)
        completed(session)
        wait_until(lambda: told, 10, "the error")
    assert told == [("no", "onStream")]


# ------------------------------------------------------------------------------------------------ the end


def test_what_was_written_is_read_after_the_task(place: Place) -> None:
    """A reader that was opened in time has all of it, however late it takes it; then the session is closed. [A-10]"""
    pieces = [bytes([number]) * 32 * 1024 for number in range(100)]

    def play(_task: Any, ctx: Any) -> None:
        stream = ctx.create_stream(declared_stream="raw", subscribe_grace_ms=20_000)
        for piece in pieces:
            stream.write(piece)

    with place.send(play) as session:
        stream = session.wait_for_stream(timeout=20).open()
        ended = threading.Event()
        stream.on_end(ended.set)
        completed(session)
        assert b"".join(stream.bytes()) == b"".join(pieces)
        assert ended.wait(10)
        wait_until(lambda: session.is_closed, 10, "the end of the session")


@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize(("drains", "window", "least", "most"), [(True, 0.8, 0.79, 15.0), (False, 20.0, 0.0, 15.0)])
def test_an_end_that_does_not_come_is_waited_for_in_the_window(
    place: Place, drains: bool, window: float, least: float, most: float, joins: bool
) -> None:
    """Then the stream is cut and says so as a timeout; without `auto_drain` it is cut with the task. [A-10]"""

    def play(_task: Any, ctx: Any) -> None:
        ctx.create_stream(declared_stream="chat", external=True).activate()
        ctx.wait(20)

    with place.send(play, auto_drain=drains, drain_window_s=window, **PIPE) as sent:
        how = {"auto_drain": drains, "drain_window_s": window}
        session = place.client.connect(sent.task_id, **how) if joins else sent
        stream = session.wait_for_stream(timeout=20).open()
        told: list[StreamError] = []
        stream.on_error(told.append)
        before = time.monotonic()
        session.cancel()
        session.wait_for_terminal(20)
        assert list(stream.events()) == []
        took = time.monotonic() - before
        wait_until(lambda: session.is_closed, what="the end of the session")
    assert least < took < most
    wait_until(lambda: [error.category for error in told] == (["timeout"] if drains else []), what="what was told")


def test_a_pipe_speaks_after_its_handler(place: Place) -> None:
    """Its streams go on; a terminate ends them for writer and reader. [R-29]"""
    ended = threading.Event()
    kept: list[Any] = []

    def play(_task: Any, ctx: Any) -> str:
        kept.append(ctx.create_stream(declared_stream="words"))
        kept[0].on_end(ended.set)
        return "open"

    with place.send(play, **PIPE) as session:
        stream = session.wait_for_stream(timeout=20).open()
        wait_until(session.list_artifacts, 20, "the return of the handler")
        kept[0].write("late")
        assert next(stream.events()) == "late"
        session.terminate()
        assert list(stream.events()) == []
        assert session.wait_for_terminal(30).reason == "terminated"
        assert ended.wait(10)
        with pytest.raises(RuntimeError):
            kept[0].write("too late")


def test_a_failed_stream_fails_its_task(place: Place) -> None:
    """What `on_activate` raises, and `fail_stream`, end stream and task: `stream_crashed`, with the reason."""

    def crashes(stream: StreamObject) -> None:
        stream.write("x")
        raise LookupError("lost it")

    callback: OnActivateCallback = crashes
    with place.send(lambda _t, ctx: ctx.create_stream(declared_stream="words", on_activate=callback), **PIPE) as first:
        event = first.wait_for_terminal(30)
    assert (event.state, event.error, event.error_code) == ("failed", "lost it", "stream_crashed")

    with place.send(lambda _t, ctx: ctx.create_stream(declared_stream="words").write("x"), **PIPE) as second:
        stream = second.wait_for_stream(timeout=20).open()
        assert next(stream.events()) == "x"
        place.agent.fail_stream(stream.stream_id, "no more news")
        event = second.wait_for_terminal(30)
        assert list(stream.events()) == []
    assert (event.state, event.error, event.error_code) == ("failed", "no more news", "stream_crashed")


def test_what_a_stream_cannot_use_is_refused_at_once(place: Place) -> None:
    """A wrong argument, and an event that no reader would take, are errors of the call that has them."""
    wrong: list[dict[str, Any]] = [{"on_activate": 3}, {"subscribe_grace_ms": "1"}, {"bundle_size_bytes": "1"}]
    refused: list[str] = []

    def play(_task: Any, ctx: Any) -> None:
        for each in wrong:
            with pytest.raises(TypeError, match=next(iter(each))) as error:
                ctx.create_stream(**each)
            refused.append(str(error.value))
        with ctx.create_stream(format="events", subscribe_grace_ms=20_000) as stream:
            with pytest.raises(ValueError, match="67108864 are allowed"):
                stream.write("x" * (MAX_EVENT - 1))
            stream.write("short")

    with place.send(play, agent="plain", stream=True) as session:
        assert list(session.wait_for_stream(timeout=20).open().events()) == ["short"]
        completed(session)
    assert len(refused) == len(wrong)


def test_lost_access_ends_a_stream(tmp_path: Path) -> None:
    """When the consumer's key is revoked its iterator ends, after a fatal `access_denied` of that channel. [A-13]"""
    stop = threading.Event()

    def play(_task: Any, ctx: Any) -> None:
        stream = ctx.create_stream(declared_stream="raw")
        while not ctx.wait(0.05) and not stop.is_set():
            stream.write("tick")

    with running_hub(tmp_path) as hub, at(tmp_path, hub) as place:
        key = hub.ask("POST", "/api/v1/auth/keys", {"name": "n"}, bearer=hub.key).json
        place.client.destroy()
        place.client = TaskClient.create("free", cdm_url=f"{hub.address.url}/api/v1/cdm", api_key=key["key"])
        told: list[StreamError] = []
        with place.client, place.send(play) as session:
            stream = session.wait_for_stream(timeout=20).open()
            stream.on_error(told.append)
            chunks = stream.bytes()
            assert next(chunks) == b"tick"
            assert hub.ask("DELETE", f"/api/v1/auth/keys/{key['id']}", bearer=hub.key).status == 204
            in_background(lambda: list(chunks))(20)
            assert not stream.is_active
            wait_until(lambda: any(error.fatal for error in told), what="the word of it")
        stop.set()
    fatal = [error for error in told if error.fatal]
    assert [(error.category, error.channel) for error in fatal] == [("access_denied", stream.channel)]


# ------------------------------------------------------------------------------------------------ what is carried


def test_the_card_is_minded_both_ways(place: Place) -> None:
    """An event that the card does not allow is refused to its writer, and dropped and told where it comes. [R-59]"""
    refused: list[str] = []
    told: list[str] = []
    came: list[Any] = []

    def play(_task: Any, ctx: Any) -> None:
        stream = ctx.create_stream(declared_stream="chat")
        stream.on_error(lambda error: told.append(f"{error.category} {error.error}"))
        for wrong in (5, "much longer than ten"):
            with pytest.raises(ValueError, match="as the card declares") as error:
                stream.write(wrong)
            refused.append(str(error.value))
        stream.write("ready")
        came.extend(stream.events())
        stream.end()

    with place.send(play, **PIPE) as session:
        stream = session.wait_for_stream(timeout=20).open()
        items = stream.events()
        assert next(items) == "ready"
        for value in (1, "two", 3, None):
            stream.write(value)
        stream.end()
        assert list(items) == []
        session.terminate()
    assert came == [1, 3]
    assert len(refused) == 2
    assert all("'chat'" in text for text in refused)
    wait_until(lambda: len([text for text in told if text.startswith("malformed_response")]) == 2, what="both")


def test_a_generator_speaks_while_it_works(place: Place) -> None:
    """Its values are events of the card's own stream as they are made, and what it returns is the result."""
    go = threading.Event()

    def play(_task: Any, _ctx: Any) -> Any:
        yield "one"
        assert go.wait(20)
        yield "two"
        return "all of it"

    with place.send(play) as session:
        stream = session.wait_for_stream(timeout=20).open()
        items = stream.events()
        assert stream.stream_id == f"{session.task_id}-1"
        assert next(items) == "one"
        go.set()
        assert list(items) == ["two"]
        completed(session)
        assert session.text(5) == "all of it"


@pytest.mark.parametrize(("agent", "more"), [("speaker", {"stream": False}), ("plain", {})])
def test_a_generator_without_a_stream_gives_a_list(place: Place, agent: str, more: dict[str, Any]) -> None:
    """Where no stream is negotiated its values are one JSON list."""

    def play(_task: Any, _ctx: Any) -> Any:
        yield "one"
        yield {"two": 2}

    with place.send(play, agent, **more) as session:
        assert session.json(30) == ["one", {"two": 2}]
        assert session.list_streams() == []


def test_a_generator_that_opens_streams_itself_gives_a_list(place: Place) -> None:
    """Who writes to a stream of his own is not given another."""

    def play(_task: Any, ctx: Any) -> Any:
        with ctx.create_stream(declared_stream="words", subscribe_grace_ms=20_000) as stream:
            stream.write("streamed")
            yield 1
        yield 2

    with place.send(play) as session:
        assert list(session.wait_for_stream(timeout=20).open().events()) == ["streamed"]
        assert session.json(30) == [1, 2]
        assert len(session.list_streams()) == 1


def test_a_cancelled_generator_is_closed(place: Place) -> None:
    """One without end stops where it is when the task is to, and its cleanup runs."""
    cleaned = threading.Event()

    def play(_task: Any, ctx: Any) -> Any:
        try:
            while True:
                yield "tick"
                ctx.wait(0.05)
        finally:
            cleaned.set()

    with place.send(play) as session:
        items = session.wait_for_stream(timeout=20).open().events()
        assert next(items) == "tick"
        session.cancel()
        assert session.wait_for_terminal(20).state == "canceled"
        assert set(items) <= {"tick"}
    assert cleaned.wait(20)


@pytest.mark.parametrize("side", ["agent", "consumer"])
def test_the_surroundings_say_how_streams_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    """`STREAM_MAX_MESSAGE_SIZE` and `STREAM_BUNDLE_SIZE` hold for what an agent writes, and for a consumer. [R-10]"""
    monkeypatch.setenv("STREAM_MAX_MESSAGE_SIZE", "2048")
    monkeypatch.setenv("STREAM_BUNDLE_SIZE", "1")
    seen: list[InboundMessage] = []
    done = threading.Event()
    written = [b"x" * 10_000, b"a", b"b", b"c"]

    def play(_task: Any, ctx: Any) -> None:
        if side == "consumer":
            seen.extend(ctx.create_stream(declared_stream="orders").inbound)
            done.set()
            return
        with ctx.create_stream(declared_stream="raw") as stream:
            for data in written:
                stream.write(data)

    with running_hub(tmp_path) as hub, at(tmp_path, hub) as place, place.send(play, **PIPE) as session:
        stream = session.wait_for_stream(timeout=20).open()
        if side == "agent":
            seen.extend(stream.inbound)
        else:
            for data in written:
                stream.write(data)
            stream.end()
            assert done.wait(20)
        session.terminate()
    assert b"".join(chunk for message in seen for chunk in message.data) == b"".join(written)
    assert {len(message.data) for message in seen} == {1}
    assert max(len(message.data[0]) for message in seen) <= 2048 * 3 / 4
    assert [message.seq for message in seen] == list(range(len(seen)))
    assert {(message.format, message.encoding) for message in seen} == {("bytes", "base64")}


def test_presence_counts_open_streams(place: Place) -> None:
    """How many streams an instance has open stands in its row; ended ones do not count."""
    kept: list[Any] = []
    go = threading.Event()

    def play(_task: Any, ctx: Any) -> None:
        kept.extend(ctx.create_stream(declared_stream=name) for name in ("words", "raw"))
        go.wait(30)

    def active() -> int:
        row = place.hub.ask("GET", "/api/v1/registry/agents?agentName=speaker").json
        return sum(each["activeStreams"] for each in row["agent"]["instances"])

    with place.send(play) as session:
        before = active()
        wait_until(lambda: active() >= 2, 20, f"two streams, after {before}")
        kept[0].end()
        go.set()
        completed(session)
        wait_until(lambda: active() == 0, 20, "none")


# ------------------------------------------------------------------------------------------------ by token alone


def test_a_descriptor_is_enough_to_read(place: Place) -> None:
    """`from_descriptor` reads all from the first frame on a connection of its own, and ends with the stream."""
    go = threading.Event()

    def play(_task: Any, ctx: Any) -> None:
        with ctx.create_stream(declared_stream="words", metadata={"lang": "en"}) as stream:
            stream.write("one")
            go.wait(30)
            stream.write("two")

    with place.send(play) as session:
        about = session.wait_for_stream(timeout=20).descriptor
        assert isinstance(about, StreamDescriptor)
        assert (about.metadata, about.affinity, about.agent_name) == ({"lang": "en"}, "dedicated", "speaker")
        assert (about.agent_direction, about.local_direction) == ("outbound", invert_direction("outbound"))
        assert str(about.token) not in repr(about)
        stream = StreamClient.from_descriptor(
            about, **place.network(), max_latency_ms=5, gating=True, reorder_timeout_ms=500
        )
        items = stream.events()
        assert next(items) == "one"
        go.set()
        assert list(items) == ["two"]
        assert "only read" in refusal(lambda: stream.write("x"))
        completed(session)


def test_a_stream_of_another_process(place: Place) -> None:
    """An external stream is spoken by whoever holds its token, and read as any other; the rest it refuses."""
    handed: list[Any] = []
    go = threading.Event()

    def play(_task: Any, ctx: Any) -> None:
        stream = ctx.create_stream(declared_stream="chat", external=True)
        handed.append(stream)
        stream.activate({"by": "another"})
        go.wait(30)
        stream.end()

    with place.send(play, **PIPE) as session:
        reader = session.wait_for_stream(timeout=20).open()
        external = wait_until(lambda: handed, what="the stream")[0]
        assert isinstance(external, ExternalStreamObject)
        for use in (lambda: external.write("x"), external.bytes, external.events, external.as_file):
            assert "external" in refusal(use)
        for use in (lambda: external.uuid, lambda: external.inbound, lambda: external.on_error(print)):
            assert "external" in refusal(use)
        with StreamClient(
            **place.network(),
            token=external.token,
            agent_name="speaker",
            stream_id=external.stream_id,
            format="events",
            direction="bidirectional",
        ) as agent:
            assert agent.channel == external.channel == reader.channel
            agent.write("hello")
            assert next(reader.events()) == "hello"
            reader.write(7)
            assert next(agent.events()) == 7
        go.set()
        session.terminate()


def test_a_foreign_token_opens_nothing(place: Place) -> None:
    """A token of another stream or side, junk, and a wrong key fail at once, with what to do. [A-13]"""
    go = threading.Event()

    def play(_task: Any, ctx: Any) -> None:
        ctx.create_stream(declared_stream="words").write("x")
        ctx.create_stream(declared_stream="raw").write("y")
        go.wait(30)

    with place.send(play) as session:
        first, second = (session.wait_for_stream(name, 20).descriptor for name in ("words", "raw"))
        network = place.network()
        named = {"agent_name": second.agent_name, "stream_id": second.stream_id, "token": second.token}
        clock = Clock()
        began = clock.monotonic()
        foreign = refused(lambda: StreamClient.from_descriptor(second, token=first.token, **network))
        junk = refused(lambda: StreamClient.from_descriptor(second, token="junk", **network))
        other_side = refused(lambda: StreamClient(**network, **named))
        wrong_key = refused(lambda: StreamClient.from_descriptor(second, **{**network, "subscribe_key": "sub-c-1"}))
        took = clock.monotonic() - began
        go.set()
        completed(session)

    assert took < 15
    assert all("take a new one from StreamRef.descriptor.token" in said for said in (foreign, junk))
    assert "the agent's side" in other_side
    assert "take a new one from ExternalStreamObject.token" in other_side
    assert "Invalid Subscribe Key" in wrong_key


def test_lines_and_periods_and_consumers_in_the_background(place: Place) -> None:
    """`as_file` reads lines, `write_periodic` counts from 1, `consume_in_background` tells its trouble. [R-42]"""
    taken: list[int] = []
    lines: list[bytes] = []

    def play(_task: Any, ctx: Any) -> None:
        stream = ctx.create_stream(declared_stream="chat")
        for number in stream.events():
            taken.append(number)
            if number == 4:
                break
        stream.write("enough")
        with ctx.create_stream(declared_stream="raw") as raw:
            raw.write("first line\nsecond ")
            wait_until(lambda: lines, 20)
            raw.write("line\nrest")

    def told_of(item: Any) -> None:
        stop.set()
        raise LookupError(item)

    stop = threading.Event()
    with place.send(play, **PIPE) as session:
        chat = session.wait_for_stream("chat", 20).open()
        told: list[StreamError] = []
        chat.on_error(told.append)
        chat.consume_in_background(told_of)
        chat.write_periodic(0.02, lambda count: count, stop)
        file = session.wait_for_stream("raw", 20).open().as_file()
        lines.append(file.readline())
        rest = file.read()
        wait_until(lambda: told, 10, "the error of the callback")
        assert stop.is_set()
        session.terminate()
    assert taken == [1, 2, 3, 4]
    assert (lines[0], rest) == (b"first line\n", b"second line\nrest")
    assert (told[0].category, told[0].error, told[0].fatal) == ("other", "LookupError: enough", False)


def test_each_side_does_its_own(place: Place) -> None:
    """What is only written is not read there, and the other way round; a form that does not fit is told. [R-48]"""
    told: list[str] = []

    def play(_task: Any, ctx: Any) -> None:
        out, back = (ctx.create_stream(declared_stream=name) for name in ("raw", "orders"))
        told.extend(refusal(use) for use in (lambda: out.inbound, out.bytes, out.as_file, lambda: back.write("x")))
        for wrong in (5, {"a": 1}):
            with pytest.raises(TypeError, match="str, bytes, bytearray or memoryview"):
                out.write(wrong)

    with place.send(play, **PIPE) as session:
        raw, orders = (session.wait_for_stream(name, 20).open() for name in ("raw", "orders"))
        assert "only read" in refusal(lambda: raw.write("x"))
        assert "only written" in refusal(orders.bytes)
        assert "use bytes()" in refusal(raw.events)
        wait_until(lambda: len(told) == 4, 20, "the handler")
        session.terminate()
    assert ["only written" in text for text in told] == [True, True, True, False]
    assert "only read" in told[3]


def test_nothing_is_written_after_the_task(place: Place) -> None:
    """A context that was kept opens nothing, and its stream takes nothing."""
    kept: list[Any] = []

    def play(_task: Any, ctx: Any) -> None:
        kept.extend([ctx, ctx.create_stream(declared_stream="words")])

    with place.send(play) as session:
        completed(session)
    wait_until(lambda: not kept[1].is_active, 10, "the end of the stream")
    with pytest.raises(TaskFinishedError):
        kept[0].create_stream(declared_stream="words")
    assert "ended" in refusal(lambda: kept[1].write("x"))


def test_a_shared_stream_is_one_for_all_tasks(place: Place) -> None:
    """A task that joins hears what is written from then on, the same object in one task, and ends by itself. [R-20]"""
    streams: dict[str, Any] = {}
    gates = {name: threading.Event() for name in ("first", "second")}

    def play(name: str) -> Callable[[Any, Any], None]:
        def joins(_task: Any, ctx: Any) -> None:
            stream = streams[name] = ctx.create_stream(declared_stream="ticks")
            assert isinstance(stream, StreamObject)
            assert ctx.create_stream(declared_stream="ticks") is stream
            with pytest.raises(ValueError, match="other arguments"):
                ctx.create_stream(declared_stream="ticks", bundle_size_bytes=7)
            gates[name].wait(30)

        return joins

    with place.send(play("first"), **PIPE) as first:
        one = first.wait_for_stream(timeout=20).open()
        wait_until(lambda: "first" in streams, what="the first one's")
        streams["first"].write("before")
        assert next(one.bytes()) == b"before"
        with place.send(play("second"), **PIPE) as second:
            other = second.wait_for_stream(timeout=20).open()
            wait_until(lambda: "second" in streams, what="the second one's")
            streams["second"].write("both")
            assert [next(each.bytes()) for each in (one, other)] == [b"both", b"both"]
            gates["second"].set()
            second.terminate()
            assert list(other.bytes()) == []
        streams["first"].write("alone")
        assert next(one.bytes()) == b"alone"
        gates["first"].set()
        first.terminate()
        assert list(one.bytes()) == []
    assert json.dumps([one.stream_id, other.stream_id]) == '["ticks", "ticks"]'
