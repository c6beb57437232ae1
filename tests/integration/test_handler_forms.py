"""Every signature and every form of result, from a real instance over hub and network to a client."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import pytest
from support_hub import running_hub

from blocks_worker import TaskClient, start_agent_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker import TaskSession

    Returning = Callable[[Callable[[], Any]], TaskSession]

#: Type, data, name and output id of an artifact.
Shown = tuple[str, bytes, str | None, str | None]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run one hub for the tests of this file; return what names it."""
    folder = tmp_path_factory.mktemp("state")
    with running_hub(folder) as caller:
        yield {"BLOCKS_STATE_DIR": str(folder), "BLOCKS_CDM_URL": f"{caller.address.url}/api/v1/cdm"}


@pytest.fixture(autouse=True)
def at_the_hub(hub: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name that hub."""
    for name, value in hub.items():
        monkeypatch.setenv(name, value)


def ask(client: TaskClient, handler: Any, **options: Any) -> TaskSession:
    """Serve a handler, send it one text, and return the session of the ended task."""
    with start_agent_instance({"agent_name": "asked", "handler": handler, **options}) as instance:
        instance.wait_ready(30)
        return sent(client, "asked")


def sent(client: TaskClient, agent: str) -> TaskSession:
    """Return the session of a task that has ended."""
    session = client.send_message(agent, "hi", max_runtime=20)
    session.wait_for_terminal(30)
    return session


@pytest.fixture(scope="module")
def made() -> list[Callable[[], Any]]:
    """Be what makes the results of the agent `forms`: the last one."""
    return []


@pytest.fixture(scope="module")
def client(hub: dict[str, str], made: list[Callable[[], Any]]) -> Iterator[TaskClient]:
    """Return a client of a hub where `forms` is served."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hub.items():
            patch.setenv(name, value)
        instance = start_agent_instance({"agent_name": "forms", "handler": lambda _task: made[-1]()})
        opened = TaskClient.create("free")
    with instance, opened:
        instance.wait_ready(30)
        yield opened


@pytest.fixture
def returning(client: TaskClient, made: list[Callable[[], Any]]) -> Returning:
    """Return a function that gives the session of a task whose handler returns what a function makes."""

    def returned(make: Callable[[], Any]) -> TaskSession:
        made.append(make)
        return sent(client, "forms")

    return returned


class Callee:
    """An object that can be called, and its methods."""

    def __call__(self, task: Any) -> str:
        """Echo."""
        return str(task.text())

    def method(self, task: Any, ctx: Any) -> str:
        """Echo, if the context is this task's."""
        return str(task.text()) if ctx.task_id == task.task_id else "another's context"


def optional(task: Any, ctx: Any = None) -> str:
    """Echo, and see that the context came though it need not."""
    return str(task.text()) if ctx is not None else "no context"


def by_name(task: Any, *, ctx: Any) -> str:
    """Echo, with the context by its name."""
    return str(task.text()) if ctx.task_id == task.task_id else "another's context"


def prefixed(prefix: str, task: Any, ctx: Any) -> str:
    """Echo, with something that was given before."""
    return prefix + by_name(task, ctx=ctx)


async def coroutine(task: Any, ctx: Any) -> str:
    """Echo on the event loop."""
    return by_name(task, ctx=ctx)


SIGNATURES: dict[str, Any] = {
    "(task)": lambda task: task.text(),
    "(task, ctx)": Callee().method,
    "(task, ctx=None)": optional,
    "(task, *, ctx)": by_name,
    "(*given)": lambda *given: by_name(given[0], ctx=given[1]),
    "object": Callee(),
    "partial": functools.partial(prefixed, ""),
    "partial of async def": functools.partial(coroutine),
    "async def": coroutine,
}


@pytest.mark.parametrize("form", SIGNATURES)
def test_each_signature(client: TaskClient, form: str) -> None:
    """[A-6] [R-53] [R-56] Functions, methods, partials, objects and coroutines get what they ask for."""
    assert ask(client, SIGNATURES[form]).text(0) == "hi"


@pytest.mark.parametrize(
    "wrong",
    [lambda: "", lambda _a, _b, _c: "", lambda _task, *, _other: ""],
    ids=["no argument", "three", "an unknown one"],
)
def test_a_signature_that_cannot_be_called_is_refused_at_the_start(wrong: Callable[..., Any]) -> None:
    """[A-6] Nobody has to send a task to find it out; the error names the forms that there are."""
    with pytest.raises(TypeError, match=r"\(task\), \(task, ctx\)"):
        start_agent_instance({"agent_name": "forms", "handler": wrong})


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: int


class Place(pydantic.BaseModel):
    """A model of pydantic's."""

    name: str
    at: Path


def numbers() -> Iterator[Any]:
    """Yield values."""
    yield 1
    yield Point(2)


JSON, OCTETS, TEXT = "application/json", "application/octet-stream", "text/plain"
ENTRY = {"data": "x", "mimeType": "a/b", "fileName": "f.b", "outputId": "o"}
SNAKE = {"data": b"x", "mime_type": "a/b", "file_name": "f.b", "output_id": "o"}
FORMS: dict[str, tuple[Callable[[], Any], list[Shown]]] = {
    "None": (lambda: None, []),
    "str": (lambda: "hé", [(TEXT, "hé".encode(), None, None)]),
    "bytes": (lambda: b"\x00\xff", [(OCTETS, b"\x00\xff", None, None)]),
    "artifacts": (
        lambda: {"artifacts": [ENTRY, {"data": bytearray(b"y")}, {"data": memoryview(b"z")}]},
        [("a/b", b"x", "f.b", "o"), (OCTETS, b"y", None, None), (OCTETS, b"z", None, None)],
    ),
    "no artifacts": (lambda: {"artifacts": []}, []),
    "snake_case": (lambda: {"artifacts": [SNAKE]}, [("a/b", b"x", "f.b", "o")]),
    "JSON in an entry": (lambda: {"artifacts": [{"data": {"a": [1]}}]}, [(JSON, b'{"a": [1]}', None, None)]),
    "a list in an entry": (lambda: {"artifacts": [{"data": [1]}]}, [(JSON, b"[1]", None, None)]),
    "one": (lambda: {"artifact": "t", "mimeType": TEXT, "fileName": "f"}, [(TEXT, b"t", "f", None)]),
    "one as an entry": (lambda: {"artifact": ENTRY}, [("a/b", b"x", "f.b", "o")]),
    "entries": (lambda: [ENTRY, SNAKE], [("a/b", b"x", "f.b", "o")] * 2),
    "dict": (lambda: {"answer": 1}, [(JSON, b'{"answer": 1}', None, None)]),
    "dataclass": (lambda: Point(1), [(JSON, b'{"x": 1}', None, None)]),
    "pydantic": (lambda: Place(name="n", at=Path("p")), [(JSON, b'{"name":"n","at":"p"}', None, None)]),
    "pydantic within": (
        lambda: {"all": [Place(name="n", at=Path("p"))]},
        [(JSON, b'{"all": [{"name": "n", "at": "p"}]}', None, None)],
    ),
    "generator": (numbers, [(JSON, b'[1,{"x": 2}]', None, None)]),
}


def shown(session: TaskSession) -> list[Shown]:
    """Return the artifacts as a client gets them."""
    refs = session.list_artifacts()
    ids = [event.output_id for event in session.list_events() if event.type == "artifact"]
    return [
        (ref.mime_type, session.download_artifact(ref).data, ref.file_name, output_id)
        for ref, output_id in zip(refs, ids, strict=True)
    ]


def warnings(session: TaskSession) -> list[str]:
    """Return the warnings of a task."""
    return [event.message or "" for event in session.list_events() if event.status == "warning"]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_result(returning: Returning, form: str) -> None:
    """[A-6] Every form arrives as exactly its artifacts, in order, without a warning."""
    make, expected = FORMS[form]
    session = returning(make)

    assert (session.state, shown(session), warnings(session)) == ("completed", expected, [])


def test_a_path_is_the_file_under_its_name(returning: Returning, tmp_path: Path) -> None:
    """[A-6] A small file and one that has to be stored arrive whole, with a type by their names."""
    small, large = tmp_path / "a.json", tmp_path / "b.png"
    small.write_bytes(b"{}")
    large.write_bytes(bytes(range(256)) * 100)
    session = returning(lambda: {"artifacts": [small, large]})

    expected = [(JSON, b"{}", "a.json", None), ("image/png", bytes(range(256)) * 100, "b.png", None)]
    assert (shown(session), warnings(session)) == (expected, [])


#: What is left out, a word of the warning, and how many artifacts are left.
LEFT_OUT: dict[str, tuple[Any, str, int]] = {
    "int": (42, "int", 0),
    "set": ({1, 2}, "set", 0),
    "a list of something else": (["a", 1], "str", 0),
    "an unknown entry": ({"artifacts": [ENTRY, 3]}, "an int", 1),
    "an entry without data": ({"artifacts": [ENTRY, {"mimeType": "a/b"}]}, "'data'", 1),
    "data of an unknown type": ({"artifacts": [{"data": 3}]}, "an int", 0),
    "an unknown key beside artifacts": ({"artifacts": [ENTRY], "note": 1}, "'note'", 1),
    "an unknown key in an entry": ({"artifacts": [{**ENTRY, "extra": 1}]}, "'extra'", 1),
}


@pytest.mark.parametrize("form", LEFT_OUT)
def test_what_is_unknown_is_one_warning(returning: Returning, caplog: pytest.LogCaptureFixture, form: str) -> None:
    """[A-6] [R-6] An unknown shape is told once, to the consumer and in the log with its task; the rest arrives."""
    returned, word, left = LEFT_OUT[form]
    session = returning(lambda: returned)

    assert (session.state, len(shown(session))) == ("completed", left)
    (told,) = warnings(session)
    assert word in told
    logged = [record for record in caplog.records if record.getMessage() == "result_warning"]
    assert [(record.levelname, vars(record)["task"], vars(record)["warning"]) for record in logged] == [
        ("WARNING", session.task_id, told)
    ]


def test_strict_results_fail_the_task(client: TaskClient) -> None:
    """[A-6] [R-6] With `strict_results` the same is `bad_result`, with the warning as its error."""
    terminal = ask(client, lambda _task: 42, strict_results=True).wait_for_terminal(0)

    assert (terminal.state, terminal.error_code) == ("failed", "bad_result")
    assert "int" in (terminal.error or "")


def test_a_dict_is_json_for_the_client(client: TaskClient) -> None:
    """[A-6] What a handler returns as a dict a client reads as one."""
    assert ask(client, lambda task: {"said": task.text(), "parts": task.request_parts}).json(0) == {
        "said": "hi",
        "parts": json.loads('[{"text": "hi", "partId": "text"}]'),
    }


EVENTS = {"identity": {"agentName": "asked"}, "streams": {"values": {"direction": "outbound", "format": "events"}}}
TWO = {"identity": {"agentName": "asked"}, "streams": dict.fromkeys(("a", "b"), EVENTS["streams"]["values"])}


@pytest.mark.parametrize("card", [None, EVENTS], ids=["nothing declared", "one declared"])
def test_a_generator_is_a_stream_where_one_is_negotiated(client: TaskClient, card: dict[str, Any] | None) -> None:
    """[A-6] [R-5] Its values are events of the one stream that can carry them, and no artifact."""
    options = {"agent_name": "asked", "handler": lambda _task: numbers(), "card": card}
    with start_agent_instance(options) as instance:
        instance.wait_ready(30)
        session = client.send_message("asked", "hi", stream=True)
        stream = session.wait_for_stream(timeout=20).open()

        assert list(stream.events()) == [1, {"x": 2}]
        assert (session.wait_for_terminal(20).state, session.list_artifacts()) == ("completed", [])


@pytest.mark.parametrize("card", [EVENTS, TWO], ids=["refused by the consumer", "two declared"])
def test_a_generator_is_a_list_elsewhere(client: TaskClient, card: dict[str, Any]) -> None:
    """[A-6] Without a stream, or when the handler would have to say which, the values are one JSON list."""
    options = {"agent_name": "asked", "handler": lambda _task: numbers(), "card": card}
    with start_agent_instance(options) as instance:
        instance.wait_ready(30)
        session = client.send_message("asked", "hi", stream=card is TWO)

        assert session.json(20) == [1, {"x": 2}]


def test_an_endless_generator_ends_with_its_task(client: TaskClient) -> None:
    """[A-6] A cancel closes it where it stands, and what it has to tidy up is done."""
    tidied = threading.Event()

    def count(_task: Any, ctx: Any) -> Iterator[int]:
        try:
            for number in itertools.count():
                yield number
                ctx.wait(0.01)
        finally:
            tidied.set()

    with start_agent_instance({"agent_name": "asked", "handler": count, "card": EVENTS}) as instance:
        instance.wait_ready(30)
        session = client.send_message("asked", "hi")
        read = session.wait_for_stream(timeout=20).open().events()
        assert [next(read), next(read)] == [0, 1]
        session.cancel()

        assert session.wait_for_terminal(20).state == "canceled"
        assert tidied.is_set()
