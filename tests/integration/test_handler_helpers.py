"""What a handler says in one line, and what it comes to for who sent the task."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import running_hub

from blocks_worker import InputError, TaskClient, file_part, json_part, start_agent_instance, text_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker import AgentInstance, TaskSession

CARD = {
    "identity": {"agentName": "helped"},
    "streams": {"words": {"direction": "outbound", "format": "events"}},
}


@pytest.fixture(scope="module", autouse=True)
def _hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run one hub for the tests of this file; return what names it."""
    folder = tmp_path_factory.mktemp("state")
    with running_hub(folder) as caller:
        yield {"BLOCKS_STATE_DIR": str(folder), "BLOCKS_CDM_URL": f"{caller.address.url}/api/v1/cdm"}


@pytest.fixture
def client(_hub: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskClient]:
    """Return a client of it; the environment names the hub for instances too."""
    for name, value in _hub.items():
        monkeypatch.setenv(name, value)
    with TaskClient.create("free") as opened:
        yield opened


@contextmanager
def served(handler: Callable[..., Any], **options: Any) -> Iterator[AgentInstance]:
    """Serve a handler as the agent `helped`."""
    with start_agent_instance({"agent_name": "helped", "handler": handler, **options}) as instance:
        instance.wait_ready(30)
        yield instance


def ended(client: TaskClient, parts: Any = "hi", **more: Any) -> TaskSession:
    """Send a task and return its session after the end."""
    session = client.send_message("helped", parts, **more)
    session.wait_for_terminal(30)
    return session


def test_progress_is_a_fraction_with_words(client: TaskClient) -> None:
    """[R-62] [R-15] Fractions and texts arrive, at most one a second but the newest, and the last before the end."""
    took: list[float] = []

    def handler(_task: Any, ctx: Any) -> None:
        begun = time.monotonic()
        for step in range(101):
            ctx.report_progress(step / 100, f"{step} of 100")
        ctx.report_status("tidying up")
        took.append(time.monotonic() - begun)

    with served(handler):
        session = ended(client)

    said = [(event.progress, event.message) for event in session.list_events() if event.message]
    assert 1 <= len(said) <= 4 + took[0], "what comes too fast is put together"
    assert (said[-1][1], session.list_events()[-1].type) == ("tidying up", "terminal")
    assert said[0] == (0.0, "0 of 100")


def test_a_fraction_beyond_the_whole_is_refused(client: TaskClient) -> None:
    """[R-62] A handler that says 200 % fails with a sentence that says what may be said."""
    with served(lambda _task, ctx: ctx.report_progress(2.0)):
        assert "from 0 to 1" in (ended(client).wait_for_terminal(0).error or "")


def test_the_parts_of_a_task_by_name_kind_and_content(client: TaskClient) -> None:
    """[D-15] `text`, `json`, `part`, `files` and defaults, of parts in each form."""
    read: dict[str, Any] = {}

    def handler(task: Any, ctx: Any) -> None:
        read.update(
            first=task.text(),
            named=task.text("second"),
            default=task.text("none", default="nothing"),
            json=task.json("numbers"),
            extra=task.json("colored"),
            part=task.part("second").text,
            missing=task.part("none", default=None),
            files=[(part.part_id, part.mime_type, ctx.download_input_artifact(part)) for part in task.files],
        )

    parts = [
        text_part("one"),
        {"partId": "second", "text": "two"},
        json_part([1, 2], part_id="numbers"),
        {"partId": "colored", "color": "blue"},
        file_part(b"\x89PNG", part_id="picture", file_name="a.png", content_type="image/png"),
    ]
    with served(handler):
        session = ended(client, parts)

    assert session.state == "completed", session.wait_for_terminal(0)
    assert read == {
        "first": "one",
        "named": "two",
        "default": "nothing",
        "json": [1, 2],
        "extra": {"color": "blue"},
        "part": "two",
        "missing": None,
        "files": [("picture", "image/png", b"\x89PNG")],
    }


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda task: task.text("none"), "no part 'none' with text"),
        (lambda task: task.json(), "part 'text' is not JSON"),
        (lambda task: task.part("none"), "no part 'none'"),
        (lambda _task: (_ for _ in ()).throw(InputError("send less", part_id="text")), "send less"),
    ],
    ids=["text", "json", "part", "raised"],
)
def test_wrong_input_is_the_senders(
    client: TaskClient, caplog: pytest.LogCaptureFixture, ask: Callable[[Any], Any], said: str
) -> None:
    """An InputError fails the task with its sentence, and nobody is alarmed by a traceback."""

    def handler(task: Any) -> Any:
        found = ask(task)
        return next(found) if hasattr(found, "send") else found

    with served(handler):
        terminal = ended(client, "no json").wait_for_terminal(0)

    assert terminal.state == "failed"
    assert said in (terminal.error or "")
    assert "handler_failed" not in caplog.messages


def test_waits_end_with_a_cancel(client: TaskClient) -> None:
    """`wait` tells, `sleep` and `check_cancelled` raise what a handler may let pass: the task is canceled."""
    started = threading.Event()

    def handler(task: Any, ctx: Any) -> str:
        started.set()
        if task.text() == "sleep":
            ctx.sleep(60)
        assert ctx.wait(60)
        if task.text() == "check":
            ctx.check_cancelled()
        return "kept"

    with served(handler):
        for how, kept in (("sleep", 0), ("check", 0), ("wait", 1)):
            started.clear()
            session = client.send_message("helped", how)
            assert started.wait(20)
            begun = time.monotonic()
            session.cancel("enough")
            terminal = session.wait_for_terminal(20)

            assert (terminal.state, terminal.reason, terminal.error) == ("canceled", "enough", None), how
            assert len(session.list_artifacts()) == kept
            assert time.monotonic() - begun < 30


def test_what_a_handler_logs_names_its_task(client: TaskClient, caplog: pytest.LogCaptureFixture) -> None:
    """`ctx.log` is a logger whose lines carry the task."""
    with caplog.at_level(logging.INFO), served(lambda _task, ctx: ctx.log.info("half of it %s", "done")):
        task_id = ended(client).task_id

    (line,) = [record for record in caplog.records if record.getMessage() == "half of it done"]
    assert vars(line)["task"] == task_id


def test_a_stream_or_none(client: TaskClient) -> None:
    """[D-8] [R-5] A stream where the card declares one, which takes bare texts; None for who refuses streams."""

    def handler(task: Any, ctx: Any) -> str:
        stream = ctx.stream_or_none()
        if stream is None:
            return "no stream"
        for word in task.text().split():
            stream.write(word)
        return "streamed"

    with served(handler, card=CARD):
        session = client.send_message("helped", "one two")
        assert list(session.wait_for_stream(timeout=20).open().events()) == ["one", "two"]
        assert session.text(20) == "streamed"
        assert ended(client, stream=False).text(0) == "no stream"


@pytest.mark.parametrize(
    ("given", "works"),
    [
        ({}, True),
        ({"direction": "outbound"}, True),
        ({"format": "events"}, True),
        ({"format": "bytes"}, False),
        ({"direction": "inbound"}, False),
        ({"declared_stream": "other"}, False),
    ],
    ids=str,
)
def test_what_is_given_is_told_from_what_is_left_out(client: TaskClient, given: dict[str, Any], *, works: bool) -> None:
    """[R-53] Left out means as declared; a value that contradicts the card is refused, the usual one too."""

    def handler(_task: Any, ctx: Any) -> str:
        with ctx.create_stream(**given) as stream:
            return str(stream.is_bytes)

    with served(handler, card=CARD):
        terminal = ended(client).wait_for_terminal(0)

    assert terminal.state == ("completed" if works else "failed")
    if not works:
        assert "words" in (terminal.error or "")


def test_a_limit_of_one_task_ends_it(client: TaskClient) -> None:
    """[R-56] [R-26] A run over its own limit fails with `timeout` and the limit's name, and its handler is told."""
    told = threading.Event()

    def handler(_task: Any, ctx: Any) -> None:
        if ctx.wait(30):
            told.set()

    with served(handler):
        terminal = ended(client, max_runtime=1).wait_for_terminal(0)
        assert (terminal.state, terminal.error_code, terminal.reason) == ("failed", "timeout", "max_runtime")
        wait_until(told.is_set, what="the handler to be told")


def test_a_task_that_waits_says_for_what(client: TaskClient) -> None:
    """[R-56] It says that all are busy, waits in order, and after its own time in the queue it fails."""
    go = threading.Event()
    order: list[str] = []

    def handler(task: Any, ctx: Any) -> None:
        order.append(task.text())
        while not go.is_set() and not ctx.wait(0.05):
            pass

    with served(handler):
        first = client.send_message("helped", "first")
        wait_until(lambda: order == ["first"], what="the first one")
        waiting = [client.send_message("helped", str(number)) for number in range(4)]
        short = client.send_message("helped", "short", queue_ttl=1)
        assert [(session.queued, session.waits_for) for session in waiting] == [(True, "room")] * 4
        with pytest.raises(TimeoutError, match="all instances of the agent are busy"):
            waiting[0].wait_for_terminal(0.1)
        gone = short.wait_for_terminal(30)
        assert (gone.state, gone.error_code, gone.reason) == ("failed", "timeout", "queue_ttl")
        go.set()
        for session in (first, *waiting):
            assert session.wait_for_terminal(30).state == "completed"

    assert order == ["first", "0", "1", "2", "3"]
