"""What sessions and subscriptions tell, and to whom: real hub and network; the worker's side is bare HTTP."""

from __future__ import annotations

import base64
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import BareRun, Caller, let_in, running_hub
from support_proxy import FaultProxy, cdm_through

from blocks_worker import (
    CallbackErrorContext,
    ListTasksParams,
    RpcError,
    SendMessageParams,
    SomeRefusedError,
    TaskClient,
    TaskEventCallbacks,
    create_pubnub_client,
    download_artifact,
    file_part,
    subscribe_to_task,
)
from blocks_worker.config import state_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session import TaskSession

RUNNING = {"type": "progress", "progress": 0, "state": "running"}
WARNING = {"type": "system", "status": "warning", "message": "half of it"}
STREAM = {
    "type": "progress",
    "streamEvent": "stream_started",
    "streams": {"s1": {"channel": "stream.s1", "direction": "outbound", "format": "events"}},
}


def artifact(data: bytes) -> dict[str, Any]:
    """Return a worker's artifact event."""
    ref = {"kind": "inline", "mimeType": "text/plain", "size": len(data), "data": base64.b64encode(data).decode()}
    return {"type": "artifact", "artifactRef": ref}


@pytest.fixture
def bob_key() -> str:
    """Let in an owner besides the one of this machine, before there is a hub."""
    with running_hub(state_dir()):
        pass
    return let_in(state_dir(), "bob")


@pytest.fixture
def hub(bob_key: str) -> Iterator[Caller]:
    """Run a hub in the state folder of this test."""
    with running_hub(state_dir()) as caller:
        yield caller


@pytest.fixture
def instance(hub: Caller) -> str:
    """Connect an instance of echo with room for 8 and return its token."""
    token = str(hub.connect(concurrency=8, billingMode="free", listing="public")["accessToken"])
    hub.ask("POST", "/api/v1/heartbeats", {"free": 8}, bearer=token)
    return token


@pytest.fixture
def client(hub: Caller) -> Iterator[TaskClient]:
    """Create a client of the local hub."""
    with TaskClient.create("free") as made:
        yield made


@pytest.fixture
def bob(hub: Caller, bob_key: str) -> Iterator[TaskClient]:
    """Create another owner's client."""
    with TaskClient.create("free", api_key=bob_key, cdm_url=f"{hub.address.url}/api/v1/cdm") as made:
        yield made


class Heard:
    """Note what callbacks were told, by their names."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.errors: list[tuple[str, CallbackErrorContext]] = []

    def noting(self, name: str) -> Callable[[TaskEvent], None]:
        """Return a callback that notes its name and the event."""
        return lambda event: self.told.append(f"{name} {event.state or event.status or event.type}")

    def error(self, error: Exception, context: CallbackErrorContext) -> None:
        """Note an error."""
        self.errors.append((str(error), context))

    def callbacks(self, **others: Any) -> TaskEventCallbacks:
        """Return a callback for everything."""
        names = ("on_progress", "on_artifact", "on_terminal", "on_cancel_requested", "on_system", "on_event")
        noting: dict[str, Any] = {name: self.noting(name) for name in names}
        return TaskEventCallbacks(**{**noting, "on_error": self.error, **others})


ALL = [
    "on_event running", "on_progress running", "on_event warning", "on_system warning", "on_event artifact",
    "on_artifact artifact", "on_event cancel_requested", "on_cancel_requested cancel_requested",
    "on_event canceled", "on_terminal canceled",
]  # fmt: skip


def played(hub: Caller, instance: str, client: TaskClient, task_id: str) -> None:
    """Have a task say one event of each kind."""
    run = BareRun(hub, instance, task_id)
    run.say(RUNNING, WARNING, artifact(b"x"))
    client.cancel_task(task_id)
    run.end("canceled")


# -------------------------------------------------------------------------------------------- subscriptions
def test_a_subscription_is_told_everything(hub: Caller, instance: str, client: TaskClient) -> None:
    """`subscribe_to_task` tells all events, those before it too, each callback its kind; then it is over. [D-7]"""
    task_id = client.send_message("echo", "x").task_id
    first, late = Heard(), Heard()
    client.subscribe_to_task(task_id, client.get_user_id(), first.callbacks())
    played(hub, instance, client, task_id)
    wait_until(lambda: len(first.told) == len(ALL), what="all told")
    subscribe_to_task(client, task_id, client.get_user_id(), late.callbacks())
    wait_until(lambda: len(late.told) == len(ALL), what="the past is told")

    assert sorted(first.told) == sorted(late.told) == sorted(ALL)
    assert first.told[-2:] == late.told[-2:] == ALL[-2:]
    assert first.errors == late.errors == []


def test_unsubscribe_ends_the_telling(hub: Caller, instance: str, client: TaskClient) -> None:
    """After `unsubscribe` nothing is called; a second one changes nothing, and the task goes on."""
    session = client.send_message("echo", "x")
    heard = Heard()
    subscription = client.subscribe_to_task(session.task_id, None, heard.callbacks())
    run = BareRun(hub, instance, session.task_id)
    run.say(RUNNING)
    wait_until(lambda: len(heard.told) == 2, what="told")
    subscription.unsubscribe()
    subscription.unsubscribe()
    run.end()

    assert session.wait_for_terminal(30).state == "completed"
    assert heard.told == ALL[:2]


def test_an_error_in_a_subscription_says_where(hub: Caller, instance: str, client: TaskClient) -> None:
    """A callback that fails is told to `on_error` with the entry point, the callback and the event. [A-14]"""
    session = client.send_message("echo", "x")
    heard = Heard()

    def bad(_event: TaskEvent) -> None:
        raise LookupError("no")

    callbacks = TaskEventCallbacks(on_system=bad, on_progress=bad, on_error=heard.error)
    client.subscribe_to_task(session.task_id, session.owner_id, callbacks)
    BareRun(hub, instance, session.task_id).say(RUNNING, WARNING)
    wait_until(lambda: len(heard.errors) == 2, what="told")

    assert [(text, where.entry_point, where.callback_type) for text, where in heard.errors] == [
        ("no", "subscribeToTask", "onProgress"),
        ("no", "subscribeToTask", "onSystem"),
    ]
    assert heard.errors[1][1].event.message == "half of it"


def test_a_plain_client_of_the_network_subscribes(hub: Caller, instance: str, client: TaskClient) -> None:
    """With a PubNub client that holds the read grant, callbacks hear the task on threads of ours, to its end. [R-51]"""
    session = client.send_message("echo", "x")
    place = client.api.read_token(session.task_id)
    cdm = hub.ask("GET", "/api/v1/cdm").json
    plain = create_pubnub_client(
        subscribe_key=place.subscribe_key, user_id="plain", origin=cdm["origin"], token=place.pam_token
    )
    heard, threads = Heard(), set[str]()
    callbacks = heard.callbacks(on_terminal=lambda _event: threads.add(threading.current_thread().name))
    subscription = subscribe_to_task(plain, session.task_id, session.owner_id, callbacks)
    played(hub, instance, client, session.task_id)
    wait_until(lambda: threads, 20, what="the end")

    assert heard.told == ALL[:-1]
    assert {name.rpartition("-")[0] for name in threads} == {"client-callbacks"}
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "task-watch"], what="its thread ends")
    subscription.unsubscribe()
    plain.stop()


def test_a_token_that_opens_nothing_is_told(hub: Caller, instance: str, client: TaskClient) -> None:
    """A PubNub client without the read grant is told what to do, once; with the grant it hears the rest. [R-24]"""
    session = client.send_message("echo", "x")
    place = client.api.read_token(session.task_id)
    cdm = hub.ask("GET", "/api/v1/cdm").json
    plain = create_pubnub_client(subscribe_key=place.subscribe_key, user_id="plain", origin=cdm["origin"])
    heard = Heard()
    with subscribe_to_task(plain, session.task_id, session.owner_id, heard.callbacks()):
        wait_until(lambda: heard.errors, 20, "told")
        plain.set_token(place.pam_token)
        run = BareRun(hub, instance, session.task_id)

        def is_heard() -> bool:
            run.say(RUNNING)
            return bool(heard.told)

        # What is said before it listens again is lost to it: there is no hub that it could ask.
        wait_until(is_heard, 40, "it listens")
        run.end()
        wait_until(lambda: heard.told[-1:] == ["on_terminal completed"], 20, "the end")
    plain.stop()

    assert [(where.callback_type, "session.read_token" in text) for text, where in heard.errors] == [
        ("subscribe", True)
    ]


def test_what_cannot_be_subscribed(client: TaskClient, instance: str) -> None:
    """A client, callbacks, an owner or a task that does not fit is refused by its name. [R-48]"""
    session = client.send_message("echo", "x")
    with pytest.raises(TypeError, match="PubNub"):
        subscribe_to_task(object(), session.task_id, session.owner_id, TaskEventCallbacks())
    with pytest.raises(TypeError, match="TaskEventCallbacks"):
        client.subscribe_to_task(session.task_id, None, {"on_event": print})  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="on_event"):
        TaskEventCallbacks(on_event="print")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="owner_id"):
        client.subscribe_to_task(session.task_id, "bob", TaskEventCallbacks())
    with pytest.raises(RpcError):
        client.subscribe_to_task("nothing", None, TaskEventCallbacks())


# -------------------------------------------------------------------------------------------- many, lists, roles
def test_many_are_sent_at_once(hub: Caller, instance: str, client: TaskClient) -> None:
    """`send_many` gives a session each, in order; the same key is the same task; nothing asked is nothing got."""
    texts = [str(number) for number in range(40)]
    sessions = client.send_many([{"agent_name": "echo", "request_parts": text} for text in texts])
    again = client.send_many([SendMessageParams(agent_name="echo", request_parts="x", idempotency_key="k")] * 2)

    assert len({session.task_id for session in sessions}) == 40
    assert again[0].task_id == again[1].task_id
    for number in (0, 7):
        run = BareRun(hub, instance, sessions[number].task_id)
        run.say(artifact(texts[number].encode()))
        run.end()
    assert [sessions[number].text(10) for number in (0, 7)] == ["0", "7"]
    assert client.send_many([]) == []


def test_what_a_task_costs(hub: Caller, instance: str, tmp_path: Path) -> None:
    """A send is one exchange, many sends are one, and a task that goes well costs no other: nothing is read. [R-39]"""
    with FaultProxy(hub.address.url) as proxy:
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy)
        with TaskClient.create("free", cdm_url=cdm, api_key=hub.key) as client:
            client.send_message("echo", "first").cancel()
            before = len(proxy.exchanges)
            session = client.send_message("echo", "x")
            run = BareRun(hub, instance, session.task_id)
            run.say(RUNNING, artifact(b"x"))
            run.end()
            assert session.text(10) == "x"
            client.send_many([{"agent_name": "echo", "request_parts": "x"}] * 100)

            assert [each.path for each in proxy.exchanges[before:]] == ["/api/v1/tasks"] * 2


def test_of_many_some_are_refused(instance: str, client: TaskClient) -> None:
    """The error of a batch has the sessions of those that were taken; what does not fit is refused before. [R-48]"""
    good = SendMessageParams(agent_name="echo", request_parts="x")
    with pytest.raises(SomeRefusedError, match="1 of 3") as caught:
        client.send_many([good, SendMessageParams(agent_name="nobody"), good])
    taken, refused, last = caught.value.results

    assert (caught.value.code, refused.code) == ("NotFound", "NotFound")
    assert caught.value.refused == [refused]
    assert {taken.task_id, last.task_id} == {task.task_id for task in client.list_tasks().tasks}
    assert taken.cancel()
    with pytest.raises(ValueError, match="duration"):
        client.send_many([good, {"agent_name": "echo", "duration": 3}])
    assert len(client.list_tasks().tasks) == 2


def test_lists_are_filtered_and_paged(hub: Caller, instance: str, client: TaskClient) -> None:
    """State and agent choose, pages follow one another without a repeat, and a wrong state is refused by its name."""
    hub.connect("other", billingMode="free", listing="public")
    sent = [client.send_message("echo" if number % 2 else "other", "x") for number in range(7)]
    sent[1].cancel()
    found, cursor = [], None
    while True:
        page = client.list_tasks(ListTasksParams(agent_name="echo", limit=2, cursor=cursor))
        found += page.tasks
        cursor = page.next
        if cursor is None:
            break

    assert [task.task_id for task in found] == [session.task_id for session in reversed(sent[1::2])]
    canceled = client.list_tasks(ListTasksParams(state="canceled", owner_id=client.get_user_id()))
    assert [task.task_id for task in canceled.tasks] == [sent[1].task_id]
    assert (page.total_count, canceled.total_count, client.list_tasks().total_count) == (3, 1, 7)
    with pytest.raises(RpcError, match="no state"):
        client.list_tasks(ListTasksParams(state="broken"))
    with pytest.raises(ValueError, match="owner_id"):
        client.list_tasks(ListTasksParams(owner_id="bob"))


def test_a_list_is_as_long_as_was_asked_for(instance: str, client: TaskClient) -> None:
    """A limit above one page of the hub brings several, with where to go on; one that is none is refused."""
    sent = client.send_many([{"agent_name": "echo", "request_parts": "x"}] * 300)
    some = client.list_tasks(ListTasksParams(limit=280))
    rest = client.list_tasks(ListTasksParams(limit=500, cursor=some.next))

    assert (len(some.tasks), len(rest.tasks), some.total_count, rest.next) == (280, 20, 300, None)
    assert {task.task_id for task in some.tasks + rest.tasks} == {session.task_id for session in sent}
    for limit in (0, -1, True, "5", 2.5):
        with pytest.raises(ValueError, match="limit is a number of tasks, at least 1"):
            client.list_tasks(ListTasksParams(limit=limit))  # type: ignore[arg-type]  # wrong


def test_an_agents_owner_watches_what_others_sent(
    hub: Caller, instance: str, client: TaskClient, bob: TaskClient
) -> None:
    """As provider the agent's owner sees another's task, live and to its end, and cannot stop it; nobody else does."""
    sent = bob.send_message("echo", "x")
    with pytest.raises(RpcError) as caught:
        client.connect(sent.task_id)
    assert caught.value.code == "NotFound"
    watched = client.connect(sent.task_id, role="provider")
    run = BareRun(hub, instance, sent.task_id)
    run.say(RUNNING, artifact(b"for bob"))
    with pytest.raises(RuntimeError, match="only who sent"):
        watched.cancel()
    run.end()

    assert watched.wait_for_terminal(30).state == "completed"
    assert download_artifact(watched.list_artifacts()[0], watched).data == b"for bob"
    assert [event.seq for event in watched] == [event.seq for event in sent]
    assert client.connect(sent.task_id, role="provider").is_closed
    mine = client.send_message("echo", "y")
    with pytest.raises(RpcError):
        bob.connect(mine.task_id, role="provider")


def test_files_go_to_the_agents_owner_too(
    hub: Caller, instance: str, client: TaskClient, bob: TaskClient, bob_key: str
) -> None:
    """A stored file that was sent to an agent can be read by the agent's owner, and by nobody else."""
    data = bytes(range(256)) * 200
    mine, his = hub.consumer()["accessToken"], hub.consumer(bob_key)["accessToken"]

    def sent(by: TaskClient) -> str:
        task_id = by.send_message("echo", [file_part(data)]).task_id
        offers = hub.ask("POST", "/api/v1/heartbeats", {"free": 8}, bearer=instance).json["offers"]
        turn = next({"taskId": one["taskId"], "epoch": one["epoch"]} for one in offers if one["taskId"] == task_id)
        start = hub.ask("POST", "/api/v1/claims", turn, bearer=instance).json["start"]
        return str(start["requestParts"][0]["artifactRef"]["fileId"])

    of_bob, of_mine = sent(bob), sent(client)

    assert hub.ask("GET", f"/api/v1/files/{of_bob}", bearer=mine).body == data
    assert hub.ask("GET", f"/api/v1/files/{of_mine}", bearer=his).status == 404


def test_cards_and_keys(hub: Caller, client: TaskClient) -> None:
    """A card comes as it was registered, None where there is none; other keys are taken, empty ones are not."""
    card = {"identity": {"agentName": "carded"}, "description": "as told"}
    hub.connect("carded", billingMode="free", listing="public", card=card)
    keys = hub.ask("GET", "/api/v1/cdm").json["network"]

    assert client.get_agent_card("carded") == card
    assert client.get_agent_card("nobody") is None
    client.update_keys(keys["subscribeKey"], keys["publishKey"])
    with pytest.raises(ValueError, match="subscribe_key"):
        client.update_keys("")


# -------------------------------------------------------------------------------------------- callbacks
def all_failing(session: TaskSession) -> None:
    """Register a callback of each kind that fails."""

    def bad(_item: object) -> None:
        raise LookupError("no")

    for register in (
        session.on_progress, session.on_artifact, session.on_terminal, session.on_cancel_requested,
        session.on_system, session.on_event,
    ):  # fmt: skip
        register(bad)
    session.on_stream(bad)


KINDS = ["onArtifact", "onCancelRequested", "onProgress", "onStream", "onSystem", "onTerminal"]


def test_every_callback_has_its_context(hub: Caller, instance: str, client: TaskClient) -> None:
    """`on_error` is told of each kind of callback and what it got; a predicate that fails counts as no. [A-14]"""
    session = client.send_message("echo", "x")
    heard = Heard()
    session.on_error(heard.error)
    all_failing(session)
    run = BareRun(hub, instance, session.task_id)
    run.say(RUNNING, STREAM, WARNING, artifact(b"x"))
    wait_until(session.list_streams, what="the stream is announced")
    with pytest.raises(TimeoutError):
        session.wait_for_stream_where(lambda ref: ref.nothing, timeout=1)  # type: ignore[attr-defined]  # it fails
    client.cancel_task(session.task_id)
    run.end("canceled")
    wait_until(lambda: session.is_closed, what="all told")

    told = [(where.callback_type, where.entry_point) for _, where in heard.errors]
    assert sorted({kind for kind, _ in told} - {"onEvent", "streamPredicate"}) == KINDS
    assert {entry for _, entry in told} == {"taskSession"}
    assert [kind for kind, _ in told].count("onEvent") == len(session.list_events())
    of_streams = {"onStream", "streamPredicate"}
    assert {where.event.descriptor.stream_id for _, where in heard.errors if where.callback_type in of_streams} == {
        "s1"
    }
    assert of_streams <= {kind for kind, _ in told}


def test_without_on_error_the_log_has_it(
    hub: Caller, instance: str, client: TaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in a callback that nobody is told of is a WARNING that names the callback. [A-14]"""
    session = client.send_message("echo", "x")
    all_failing(session)
    with caplog.at_level(logging.WARNING, "blocks_worker.client.callbacks"):
        run = BareRun(hub, instance, session.task_id)
        run.say(RUNNING, STREAM, WARNING, artifact(b"x"))
        client.cancel_task(session.task_id)
        run.end("canceled")
        wait_until(lambda: session.is_closed, what="all told")

    failed = [record for record in caplog.records if record.message == "callback_failed"]
    assert {record.levelname for record in failed} == {"WARNING"}
    assert sorted({vars(record)["callback"] for record in failed} - {"onEvent"}) == KINDS


def test_callbacks_may_use_their_session(hub: Caller, instance: str, client: TaskClient) -> None:
    """Cancel, registering, lists, close work inside a callback of its session; a wait raises at once. [D-12] [C16]"""
    session = client.send_message("echo", "x")
    done: list[object] = []
    over = threading.Event()

    def inside(_event: TaskEvent) -> None:
        done.append(session.cancel("from inside"))
        session.on_artifact(lambda event: done.append(event.type))
        for wait in (session.wait_for_terminal, session.wait_for_stream, lambda: [*session]):
            with pytest.raises(RuntimeError):
                wait()
        done.append(bool(session.list_events()))

    def at_end(event: TaskEvent) -> None:
        done.append(session.wait_for_terminal().state == event.state)
        session.close()
        over.set()

    session.on_progress(inside)
    session.on_terminal(at_end)
    run = BareRun(hub, instance, session.task_id)
    run.say(RUNNING)
    wait_until(lambda: len(done) == 2, 20, "the first callback")
    run.say(artifact(b"x"))
    run.end("canceled")

    assert over.wait(20)
    assert done == [True, True, "artifact", True]
    assert session.is_closed


def test_callbacks_of_a_destroyed_client(hub: Caller, instance: str) -> None:
    """A callback may destroy its client: no deadlock, and nothing is called after it. [D-12] [R-33] [C16, C17]"""
    client = TaskClient.create("free")
    session, told = client.send_message("echo", "x"), list[str]()
    session.on_progress(lambda _event: client.destroy())
    session.on_artifact(lambda event: told.append(event.type))
    BareRun(hub, instance, session.task_id).say(RUNNING, artifact(b"x"))
    wait_until(lambda: session.is_closed, 20, "closed from inside")
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("client-")], 20, "threads end")

    assert told == []
    with pytest.raises(RuntimeError, match="destroyed"):
        client.send_message("echo", "x")


# -------------------------------------------------------------------------------------------- server-sent events
def parsed(text: str) -> tuple[str, Any]:
    """Return the type and data of a block."""
    fields = dict(line.split(": ", 1) for line in text.strip().splitlines())
    return fields["event"], json.loads(fields["data"])


def test_events_for_a_browser(hub: Caller, client: TaskClient) -> None:
    """State of the queue, keep-alives while it waits, each event with its number, and the end. [R-56]"""
    token = str(hub.connect(concurrency=1, billingMode="free", listing="public")["accessToken"])
    session = client.send_message("echo", "x")
    lines = session.sse(keep_alive=0.05)
    kind, state = parsed(next(lines))
    assert (kind, state["state"], state["queued"]) == ("state", "pending", True)
    assert state["waitsFor"] in {"instance", "room"}
    assert [next(lines), next(lines)] == [": keep-alive\n\n"] * 2
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=token)
    run = BareRun(hub, token, session.task_id)
    run.say({**RUNNING, "message": "a\nb"}, artifact(b"x"))
    run.end()
    rest = [text for text in lines if not text.startswith(":")]
    kinds = [parsed(text)[0] for text in rest]

    assert [kind for kind in kinds if kind != "state"] == ["progress", "artifact", "terminal"]
    assert parsed(next(text for text in rest if "event: progress" in text))[1]["message"] == "a\nb"
    assert [text.splitlines()[0] for text in rest if "event: state" not in text] == [
        f"id: {event.seq}" for event in session.list_events()
    ]
    assert all(text.endswith("\n\n") and text.count("\n\n") == 1 for text in rest)
    assert kinds[-2:] == ["state", "terminal"]
    assert [parsed(text)[0] for text in session.sse()] == ["progress", "artifact", "state", "terminal"]


def test_a_closed_session_says_so(client: TaskClient, instance: str) -> None:
    """A bridge learns that nothing more comes; a time that is none is refused."""
    session = client.send_message("echo", "x")
    lines = session.sse(0.05)
    next(lines)
    session.close()

    assert parsed([text for text in lines if not text.startswith(":")][-1])[0] == "closed"
    with pytest.raises(ValueError, match="keep_alive is a number of seconds, at least"):
        session.sse(0)
    with pytest.raises(TypeError, match=r"keep_alive is a number of seconds, at least 0\.05, not 'x'"):
        session.sse("x")  # type: ignore[arg-type]  # what is tested
