"""Bad input gets one clear sentence that says what to do, the right exit code, and nothing is lost."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from acceptance.conftest import World

from blocks_worker.client.client import TaskClient
from blocks_worker.errors import RpcError

Open = Callable[[], TaskClient]


def card(**identity: object) -> str:
    """Return an agent card as text."""
    return json.dumps({"identity": {"agentName": "carded", **identity}, "runtime": {"handler": "handler.py"}})


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--handler", "nobody"), "echo"),
        (("--handler", "no.such.module:handler"), "no.such.module"),
        (("--handler", "handlers:hodl"), "hold"),
        (("--handler", "handlers:__doc__"), "callable"),
        (("--registry", "missing.json", "--handler", "mine"), "missing.json"),
        (("--handler", "echo", "--no-local"), "BLOCKS_CDM_URL"),
        (("--handler", "echo", "--instance-id", "a b"), "instance_id"),
    ],
)
def test_a_start_that_cannot_work_ends_with_one_sentence(world: World, args: tuple[str, ...], says: str) -> None:
    """Exit code 1 and a line that names what is wrong and what there is instead."""
    environment = {"BLOCKS_HUB_URL": ""}

    done = world.run("blocks-run", *args, **environment)

    assert done.returncode == 1, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"runtime": {"handler": "handler.py"}}', "identity"),
        (card(agentName="with-hyphen"), "with_hyphen"),
        (card(agentName=7), "agentName"),
        ("{", "line 1"),
    ],
)
def test_a_bad_card_is_named_with_its_field(world: World, text: str, says: str) -> None:
    """A card that cannot be used names the field that is wrong."""
    (world.folder / "handler.py").write_text("def handler(task): return 'x'")
    (world.folder / "agent-card.json").write_text(text)

    done = world.run("blocks-run")

    assert done.returncode == 1, done.stdout + done.stderr
    assert says in done.stderr


def test_a_registry_entry_names_the_variable_it_needs(world: World) -> None:
    """A handler whose environment is incomplete is not started."""
    entry = {"name": "mine", "runtime": "python", "entrypoint": "handlers:hold", "requiresEnv": ["MY_TOKEN"]}
    (world.folder / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": [entry]}))

    done = world.run("blocks-run", "--handler", "mine")

    assert done.returncode == 1
    assert "MY_TOKEN" in done.stderr


def test_a_port_in_use_is_named(world: World) -> None:
    """A hub of its own says which port is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        done = world.run("blocks-hub", "--port", port)

    assert done.returncode == 1
    assert port in done.stderr


def test_a_state_folder_that_cannot_be_used_is_named(world: World) -> None:
    """The sentence names the folder and the variable that chooses another."""
    (world.folder / "file").write_text("")

    done = world.run("blocks-run", "--handler", "echo", BLOCKS_STATE_DIR=str(world.folder / "file" / "state"))

    assert done.returncode == 1
    assert "BLOCKS_STATE_DIR" in done.stderr


def test_a_remote_hub_without_a_key_fails_before_any_network_use(world: World) -> None:
    """The key is asked for at once, not after a time-out."""
    done = world.run("blocks-run", "--handler", "echo", BLOCKS_CDM_URL="https://hub.invalid/api/v1/cdm")

    assert done.returncode == 1
    assert "BLOCKS_API_KEY" in done.stderr


def test_a_client_without_a_hub_names_the_command_that_starts_one(world: World) -> None:
    """`blocks send` never starts a hub; it says who does."""
    done = world.run("blocks", "send", "echo", "Hello", BLOCKS_HUB_URL="")

    assert done.returncode == 4
    assert "blocks-run" in done.stderr


def test_a_refused_key_ends_with_77(world: World) -> None:
    """A credential that the hub refuses for good is not tried again."""
    world.hub()

    done = world.run("blocks-run", "--handler", "echo", BLOCKS_API_KEY="bk_" + "x" * 43)

    assert done.returncode == 77, done.stdout + done.stderr


def test_a_second_process_of_one_name_supersedes_the_first(world: World) -> None:
    """The newer one serves, the older one exits 78. [B13]"""
    world.hub()
    older = world.worker("echo", "--instance-id", "mine")
    world.worker("echo", "--instance-id", "mine")

    assert older.process.wait(60) == 78


def test_handlers_that_misbehave_end_their_task_and_nothing_else(world: World, client: Open) -> None:
    """Whatever a handler raises or returns, its task ends with a reason and the worker serves the next. [C3] [C5]"""
    worker = world.worker("handlers:misbehave")
    expected = {
        "exit": ("failed", "handler_exit"),
        "interrupt": ("failed", "handler_exit"),
        "raise": ("failed", "handler_error"),
        "huge": ("failed", "artifact_failed"),
        "junk": ("completed", None),
        "unserialisable": ("failed", "artifact_failed"),
        "fine": ("completed", None),
    }
    consumer = client()

    ends = {}
    for wish in expected:
        session = consumer.send_message(agent_name="misbehave", request_parts=wish)
        event = session.wait_for_terminal(timeout=30)
        ends[wish] = (event.state, event.error_code)
        if wish == "junk":
            assert any("object" in (event.message or "") for event in session.list_events())

    assert ends == expected
    assert worker.process.poll() is None


def test_an_unknown_task_is_not_found(world: World, client: Open) -> None:
    """An id that nobody has is answered with NotFound."""
    world.hub()

    with pytest.raises(RpcError, match="no such task") as raised:
        client().get_task("01900000-0000-7000-8000-000000000000")

    assert raised.value.code == "NotFound"


def test_an_async_handler_runs(world: World, client: Open) -> None:
    """A coroutine function is a handler like any other."""
    world.worker("handlers:later")
    session = client().send_message(agent_name="later", request_parts="x")

    session.wait_for_terminal(timeout=20)

    assert session.text() == "later: x 1"


def test_an_unknown_agent_is_said_at_submit(world: World) -> None:
    """A typing mistake in the agent's name is an error at once."""
    world.worker("echo")

    done = world.run("blocks", "send", "ecco", "Hello")

    assert done.returncode == 1
    assert "ecco" in done.stderr


def test_a_file_goes_up_to_the_upload_limit(world: World) -> None:
    """A part over the inline limit is stored and sent; one over the upload limit is refused before it is sent."""
    world.worker("handlers:measure")
    large, huge = Path(world.folder / "large"), Path(world.folder / "huge")
    large.write_bytes(b"x" * 100_000)
    with huge.open("wb") as file:
        file.truncate(26_214_401)

    done = world.run("blocks", "send", "measure", "--file", str(large))
    refused = world.run("blocks", "send", "measure", "--file", str(huge))

    assert (done.returncode, done.stdout.strip()) == (0, "100000")
    assert refused.returncode == 1
    assert "26214401" in refused.stderr
