"""What the package brings for users' own tests: one call of a handler, and a whole system in the process."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until

from blocks_worker import InputError, StartTaskMessage, TaskCancelledError, TaskContext, TaskFailedError, file_part
from blocks_worker.errors import ConfigurationError
from blocks_worker.testing import LocalStack, run_handler

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def echo(task: StartTaskMessage) -> str:
    """Say it back."""
    return f"Echo: {task.text()}"


# ---------------------------------------------------------------- one call of a handler


def test_a_run_tells_what_the_handler_said_and_gave() -> None:
    """Statuses, fractions, artifacts in order, text and JSON are as a consumer would have them. [R-65]"""

    def handler(task: StartTaskMessage, ctx: TaskContext) -> dict[str, Any]:
        ctx.report_status("one")
        ctx.report_status("two")
        ctx.report_progress(0.5, "half")
        ctx.publish_artifact("draft", file_name="draft.txt")
        return {"name": task.text(), "owner": task.metadata["owner"]}

    run = run_handler(handler, "Ada", metadata={"owner": "me"})

    assert (run.state, run.error, run.warnings) == ("completed", None, [])
    assert (run.statuses, run.progress) == (["one", "two", "half"], [0.5])
    assert [(each.file_name, each.mime_type) for each in run.artifacts] == [
        ("draft.txt", "text/plain"),
        (None, "application/json"),
    ]
    assert run.artifacts[0].text() == "draft"
    assert run.text().startswith("draft\n{")
    assert run_handler(lambda _task: {"a": [1]}).json() == {"a": [1]}
    assert [event.type for event in run.events if event.artifact_ref] == ["artifact", "artifact"]


def test_every_form_of_handler_is_called() -> None:
    """One parameter or two, a coroutine and a generator: each is called as a worker calls it. [R-65]"""

    async def slow(task: StartTaskMessage, *, ctx: TaskContext) -> str:
        await asyncio.sleep(0)
        return f"{ctx.task_id}: {task.text()}"

    def values(task: StartTaskMessage) -> Iterator[int]:
        yield from range(int(task.text()))

    assert run_handler(echo, "x").text() == "Echo: x"
    assert run_handler(slow, "x").text() == "test-task: x"
    assert run_handler(values, "3").json() == [0, 1, 2]


def test_large_files_go_in_and_out(tmp_path: Path) -> None:
    """What does not fit into an event is stored beside it, on both ways. [R-65]"""
    content = os.urandom(300_000)
    (tmp_path / "in.bin").write_bytes(content)

    def turned(task: StartTaskMessage, ctx: TaskContext) -> bytes:
        return bytes(reversed(ctx.download_input_artifact(task.files[0])))

    run = run_handler(turned, [file_part(tmp_path / "in.bin")])

    assert run.artifacts[0].data == content[::-1]


def test_streams_are_kept_by_their_names() -> None:
    """What is written to a stream, and what a generator yields into one, can be read afterwards. [R-65]"""
    card = {"identity": {"agentName": "speller"}, "streams": {"letters": {"direction": "outbound", "format": "events"}}}

    def spell(task: StartTaskMessage) -> Any:
        yield from task.text()
        yield {"large": "x" * 50_000}
        return "done"

    def write(_task: StartTaskMessage, ctx: TaskContext) -> None:
        with ctx.create_stream(format="bytes") as stream:
            stream.write("text")
            stream.write(b"\xff" * 20_000)

    spelled = run_handler(spell, "abc", card=card)
    written = run_handler(write, stream=True)

    assert spelled.streams == {"letters": ["a", "b", "c", {"large": "x" * 50_000}]}
    assert spelled.text() == "done"
    assert [b"".join(chunks) for chunks in written.streams.values()] == [b"text" + b"\xff" * 20_000]
    assert isinstance(run_handler(write).error, RuntimeError), "no stream was asked for"


def test_what_goes_wrong_is_told_not_raised() -> None:
    """An exception, an input against the card and a result of an unknown shape stand in the run. [R-65]"""
    card = {
        "identity": {"agentName": "strict"},
        "io": {"inputs": [{"id": "text", "contentType": "text/plain", "required": True}]},
    }

    def broken(_task: StartTaskMessage) -> str:
        raise KeyError("x")

    failed, refused = run_handler(broken, "x"), run_handler(echo, card=card)
    unknown, strict = run_handler(lambda _: object()), run_handler(lambda _: object(), strict_results=True)

    assert isinstance(failed.error, KeyError)
    assert (failed.state, failed.error_code) == ("failed", "handler_error")
    assert isinstance(refused.error, InputError)
    assert (refused.state, refused.error_code, refused.message) == ("failed", "invalid_input", str(refused.error))
    assert unknown.state == "completed"
    assert len(unknown.warnings) == 1
    assert (strict.state, strict.error_code) == ("failed", "bad_result")


def test_a_run_can_be_cancelled() -> None:
    """A handler hears a cancel; who ignores it is given up after its grace, an endless one at its end. [R-65]"""
    never = threading.Event()

    def obeys(_task: StartTaskMessage, ctx: TaskContext) -> None:
        ctx.wait(60)
        ctx.check_cancelled()

    def ignores(_task: StartTaskMessage) -> None:
        never.wait(60)

    try:
        obeyed = run_handler(obeys, cancel_after=0.0, cancel_reason="enough")
        ignored = run_handler(ignores, cancel_after=0.0, cancel_grace=0.1)
        endless = run_handler(obeys, timeout=0.1)
    finally:
        never.set()

    assert (obeyed.state, obeyed.reason) == ("canceled", "enough")
    assert isinstance(obeyed.error, TaskCancelledError)
    assert ignored.state == "canceled"
    assert (endless.state, endless.error_code) == ("failed", "timeout")


def test_a_run_leaves_no_thread() -> None:
    """When a run is told, its threads have ended. [R-65]"""
    before = set(threading.enumerate())

    async def streams(_task: StartTaskMessage, ctx: TaskContext) -> None:
        with ctx.create_stream(format="events") as stream:
            stream.write(1)

    assert run_handler(streams, stream=True).streams == {"test-task-1": [1]}
    wait_until(lambda: set(threading.enumerate()) <= before, what="the threads end")


# ---------------------------------------------------------------- hub, workers and client


def test_a_stack_serves_handlers_and_leaves_nothing() -> None:
    """Two agents, one of which asks the other; afterwards no thread, no variable and no file is left. [R-65]"""
    before, variables = set(threading.enumerate()), dict(os.environ)

    def asks(task: StartTaskMessage, ctx: TaskContext) -> str:
        return f"they said {ctx.call('echo', task.text()).text}"

    with LocalStack({"echo": echo, "asks": {"handler": asks, "concurrency": 2}}) as stack:
        assert stack.run("asks", "Hello").text == "they said Echo: Hello"
        assert stack.agents["asks"].concurrency == 2
        assert [task.state for task in stack.client.list_tasks().tasks] == ["completed", "completed"]

    assert dict(os.environ) == variables
    assert not stack._folder.exists()
    wait_until(lambda: set(threading.enumerate()) <= before, what="the threads end")
    with pytest.raises(RuntimeError, match="with LocalStack"):
        stack.run("echo")


def test_a_stack_reads_no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Addresses, keys and folders of the user's own do not reach it. [R-65]"""
    for name in ("BLOCKS_CDM_URL", "BLOCKS_HUB_URL", "BLOCKS_BACKEND_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("BLOCKS_API_KEY", "bk_" + "0" * 40)
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path / "state"))

    def asks(task: StartTaskMessage, ctx: TaskContext) -> str:
        return str(ctx.call("echo", task.text()).text)

    with LocalStack({"echo": echo, "asks": asks}) as stack:
        assert stack.run("asks", "Hello").text == "Echo: Hello"
    assert not (tmp_path / "state").exists()


def test_one_handler_is_served_under_its_name() -> None:
    """A function's name is its agent's, a lambda is "agent"; what is no handler is refused at once. [R-65]"""
    with LocalStack(echo) as stack:
        assert stack.run("echo", "x").text == "Echo: x"
    with LocalStack(lambda task: task.text()) as stack:
        assert stack.run("agent", "x").text == "x"
        with pytest.raises(TaskFailedError):
            stack.run("agent")
    with pytest.raises(TypeError, match="not callable"):
        LocalStack(7)
    with pytest.raises(ConfigurationError, match="unknown option"):
        LocalStack({"handlr": echo, "echo": {"handlr": echo}})


def test_a_stack_survives_what_a_test_does_to_it() -> None:
    """Tasks end while the network is away, after it is back, and after the hub was started again. [R-65]"""
    with LocalStack(echo) as stack:
        stack.cut_network()
        with stack.client.send_message("echo", "one") as session:
            stack.restore_network()
            assert session.result(30).text == "Echo: one"
        stack.restart_hub()
        assert stack.run("echo", "two").text == "Echo: two"
        assert len(stack.client.list_tasks().tasks) == 2
        stack.cut_network()


# ---------------------------------------------------------------- pytest

#: Fails a run after which a hub is still there.
NOTHING_IS_LEFT = """
import threading

def pytest_sessionfinish(session, exitstatus):
    assert not [each for each in threading.enumerate() if each.name in ("hub", "heartbeat", "client-events")]
"""


def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    """The tests of docs/testing.md pass under pytest, which finds the fixture where the package is installed. [R-65]"""
    snippets = re.findall(
        r"^```python\n# (\S+)\n(.*?)^```", (ROOT / "docs/testing.md").read_text(), re.DOTALL | re.MULTILINE
    )
    for name, text in snippets:
        (tmp_path / name).write_text(text)
    (tmp_path / "conftest.py").write_text(NOTHING_IS_LEFT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip

    assert "7 passed" in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    """The plugin loads pytest and nothing heavy, and the package itself never loads pytest. [R-65]"""
    code = "import sys, {}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"

    def loaded(module: str) -> set[str]:
        done = subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert not {"pubnub", "msgspec", "sqlalchemy", "starlette"} & loaded("blocks_worker.testing.plugin")
    assert "pytest" not in loaded("blocks_worker.testing.stack")
