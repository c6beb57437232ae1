"""Whatever goes wrong, users see exceptions that are documented: each says what is wrong, and why it came to that."""

from __future__ import annotations

import builtins
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from canned import Canned, reply
from support_hub import running_hub

from blocks_worker import (
    BlocksError,
    TaskClient,
    create_pubnub_client,
    download_artifact,
    errors,
    fetch_cdm_config,
    file_part,
    get_agent,
    start_agent_instance,
)
from blocks_worker.config import state_dir
from blocks_worker.handler_loader import load_handler_function, load_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def free_port() -> Iterator[int]:
    """Give a port on which nobody listens, and nobody else begins to."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield int(kept.getsockname()[1])


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskClient]:
    """Run a hub and open a client of it."""
    with running_hub(state_dir()) as hub, TaskClient.create("free") as made:
        monkeypatch.setenv("BLOCKS_HUB_URL", hub.address.url)
        yield made


def check(act: Callable[[], object], cause: type[BaseException] | None = None) -> BaseException:
    """Return what the act raises, once it is known to be documented, of a class above it too, and to say something."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is, is looked at
        act()
    error = caught.value
    kind = type(error)
    assert kind is getattr(errors, kind.__name__, None) or kind is getattr(builtins, kind.__name__, None), kind
    assert isinstance(error, BlocksError) or kind.__module__ == "builtins"
    assert len(str(error).split()) >= 3, f"{kind.__name__}({error}) says nothing"
    assert not re.search(r"0x|\w\(['\"]", str(error)), f"{error} is for programmers"
    if cause is not None:
        assert isinstance(error.__cause__, cause) or _raised_within(error, cause), error.__cause__
    return error


def _raised_within(error: BaseException, cause: type[BaseException]) -> bool:
    while error.__cause__ is not None:
        error = error.__cause__
        if isinstance(error, cause):
            return True
    return False


HTML = reply(502, b"<html>Bad Gateway</html>", kind="text/html")
JUNK = reply(200, b"\xff\xfe{", kind="application/json")
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"
NO_HTTP = b"SSH-2.0-OpenSSH_9.6\r\n"


@pytest.mark.parametrize("answer", [HTML, JUNK, LONG, NO_HTTP, b""], ids=["html", "junk", "cut", "no http", "nothing"])
def test_a_server_that_is_no_hub(answer: bytes) -> None:
    """Whoever listens there and whatever is said, no exception of a library for HTTP or JSON gets out. [R-48]"""
    with Canned(answer) as server:
        url = f"http://127.0.0.1:{server.port}"
        acts: list[Callable[[], object]] = [
            lambda: TaskClient.create("free", cdm_url=f"{url}/cdm", api_key="bk_x"),
            lambda: TaskClient.create("free", base_url=url, subscribe_key="s", publish_key="p", api_key="bk_x"),
            lambda: TaskClient.create("free", base_url=url, subscribe_key="s", publish_key="p", token_endpoint=url),
            lambda: fetch_cdm_config(url),
            lambda: get_agent("echo", base_url=url, api_key="bk_x"),
        ]
        for act in acts:
            check(act)


def test_nobody_there(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server at a port, no address of a name, TLS to nobody: each is one error, with its cause. [R-48]"""
    for url in (f"http://127.0.0.1:{free_port}", "http://nobody.invalid:1", f"https://127.0.0.1:{free_port}"):
        error = check(lambda url=url: fetch_cdm_config(f"{url}/cdm", timeout=5), OSError)  # type: ignore[misc]
        assert isinstance(error, errors.HubUnavailableError)
        assert "blocks-run" in str(error)
    monkeypatch.setenv("BLOCKS_API_KEY", "bk_x")
    monkeypatch.setenv("BLOCKS_CDM_URL", f"http://127.0.0.1:{free_port}/cdm")
    assert isinstance(check(lambda: get_agent("echo")), errors.HubUnavailableError)


def test_a_caller_who_is_wrong(client: TaskClient, tmp_path: Path) -> None:
    """Wrong names, values, files and states are documented errors or those of Python, all with a sentence. [R-48]"""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with start_agent_instance({"agent_name": "echo", "handler": lambda task: task.text()}) as instance:
        instance.wait_ready(30)
        done = client.send_message("echo", "x")
        done.wait_for_terminal(20)
        gone = {"kind": "file", "mimeType": "text/plain", "size": 1, "fileId": "01a1feaa-0000-7000-8000-000000000000"}
        wrong: list[Callable[[], object]] = [
            lambda: client.send_message("ekko", "x"),
            lambda: client.send_message("echo", {"text": float("nan")}),
            lambda: client.send_message(agent_name="echo", request_parts="x", metadata=endless),
            lambda: client.send_message(agent_name="echo", request_parts="x", duration=3),
            lambda: client.send_message(agent_name="echo", request_parts="x", no_such="y"),
            lambda: client.send_message("echo", [file_part(str(tmp_path / "missing.png"))]),
            lambda: client.send_message("echo", "x" * 2_000_000),
            lambda: client.get_task("nobody"),
            lambda: client.connect("nobody"),
            lambda: client.cancel_task("no such id / at all"),
            lambda: download_artifact(gone, client),
            lambda: download_artifact({"kind": "inline", "mimeType": "a/b", "size": 1, "data": "%%%"}),
            lambda: download_artifact({"kind": "odd"}),
            lambda: done.wait_for_stream("nothing", timeout=0.1),
            done.json,
            lambda: instance.publish_terminal("nobody", {"state": "completed"}),
            lambda: instance.fail_stream("nothing", "why"),
            lambda: start_agent_instance({"agent_name": "a-b", "handler": len}),
            lambda: start_agent_instance({"agent_name": "echo", "handler": "x:y"}),
            lambda: start_agent_instance({"agent_name": "echo", "handler": lambda: 1}),
            lambda: create_pubnub_client(subscribe_key="", user_id="u"),
            lambda: load_registry(tmp_path / "none.json"),
            lambda: load_handler_function({"name": "x", "runtime": "python", "entrypoint": "no_such_module:f"}),
        ]
        for act in wrong:
            check(act)
    client.destroy()
    check(lambda: client.send_message("echo", "x"))
