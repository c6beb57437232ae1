"""What users have written runs here after its import was changed: names, handlers, providers, consumers."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from acceptance.conftest import ROOT
from acceptance.readme_code import CONSUMER, FULL_CONTEXT, OPTIONAL_CONTEXT, PROVIDER, QUICK_START, REGISTRY

if TYPE_CHECKING:
    from acceptance.conftest import World

ARTIFACTS = """
    ArtifactRef DownloadedArtifact build_artifact_ref decode_inline_artifact download_artifact should_inline_artifact
    presigned_upload_flow FileUploadError BLOCKS_MAX_UPLOAD_BYTES
"""
CDM = "fetch_cdm_config CdmConfig CdmKeyset CdmApiConfig DEFAULT_CDM_URL"
#: From where users import which names.
NAMES = {
    "blocks_worker": f"""
        start_agent_instance AgentInstanceOptions
        StartTaskMessage ExpireTaskMessage RequestPart TaskContext
        StreamObject ExternalStreamObject OnActivateCallback
        AgentAuth AgentAuthFatalError create_pubnub_client
        ChannelManager create_channel_manager StreamRegistry CredentialCache
        TaskClient create_task_client TaskSession TaskEvent CallbackErrorContext
        subscribe_to_task TaskSubscription TaskEventCallbacks TaskInfo ListTasksParams ListTasksResult task_channel
        SendMessageParams SendMessageRequestPart text_part file_part
        AuthProvider ConsumerAuth TokenEndpointConfig TokenResult AuthRefreshFailedError
        StreamRef StreamError StreamUnavailableError InboundMessage
        {ARTIFACTS} {CDM} get_agent AgentEntry
        RpcError BillingModeMismatchError AnonTaskAccessDenied AnonTaskAccessDeniedError
    """,
    "blocks_worker.types": """
        StartTaskMessage ExpireTaskMessage RequestPart CancelTaskMessage ControlMessage AgentInstancePresenceState
        parse_control_message TaskContext AgentInstanceOptions SendMessageParams SendMessageRequestPart TaskEvent
        ArtifactRef
    """,
    "blocks_worker.stream": """
        StreamClient StreamDescriptor StreamRef StreamError StreamUnavailableError InboundMessage invert_direction
    """,
    "blocks_worker.consumer_auth": "ConsumerAuth TokenResult TokenEndpointConfig AuthRefreshFailedError",
    "blocks_worker.auth_provider": "AuthProvider StaticAuthProvider",
    "blocks_worker.agent_instance": "start_agent_instance AgentInstance",
    "blocks_worker.agent_registry": """
        get_agent AgentEntry fetch_agent_registry fetch_agents_by_tag fetch_agents_by_skill fetch_agents_by_listing
        remove_agent connect_agent ConnectAgentOptions AgentScaling
    """,
    "blocks_worker.handler_loader": "load_registry get_available_handlers find_handler_entry load_handler_function",
    "blocks_worker.task_client": "TaskClient create_task_client",
    "blocks_worker.task_session": "TaskSession",
    "blocks_worker.artifacts": ARTIFACTS,
    "blocks_worker.cdm_config": CDM,
    "blocks_worker.config": "",
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in NAMES for name in NAMES[module].split()])
def test_each_name_is_imported_from_where_users_import_it(module: str, name: str) -> None:
    """[A-1] Each name is there, and the same thing wherever it is imported from."""
    found = getattr(import_module(module), name)

    assert all(found is getattr(import_module(other), name) for other in NAMES if name in NAMES[other].split())


def test_every_module_of_users_imports_alone() -> None:
    """[A-1] Each module that users import may be the first of a process."""
    for module in NAMES:
        subprocess.run([sys.executable, "-W", "error", "-c", f"import {module}"], check=True, timeout=60, cwd=ROOT)


@pytest.mark.parametrize(
    ("handler", "text", "answer"), [("echo", "Hello", "Hello"), ("adder", '{"a": 1, "b": 2}', "3")]
)
@pytest.mark.parametrize("is_told", [True, False], ids=["address told", "address not told"])
def test_the_first_commands(world: World, handler: str, text: str, answer: str, *, is_told: bool) -> None:
    """[A-2] [R-3] A built-in handler is served and called from a second process, the hub's address set or not."""
    world.environment.pop("BLOCKS_HUB_URL")
    told = {"BLOCKS_CDM_URL": f"http://localhost:{world.port}/api/v1/cdm"} if is_told else {}
    worker = world.worker(handler, **told)
    if is_told:
        assert f":{world.port}" in worker.text(), "the hub is where it was told to be"

    done = world.run("blocks", "send", handler, text, **told)

    assert done.returncode == 0, done.stderr
    assert answer in done.stdout


def test_a_handler_with_an_optional_context_under_a_hyphenated_name(world: World) -> None:
    """[A-3] [R-4] It is found in the user's registry, its agent has underscores, and it dumps a part as JSON."""
    (world.folder / "write_down.py").write_text(OPTIONAL_CONTEXT)
    (world.folder / "registry.json").write_text(REGISTRY)
    worker = world.worker("write-down")
    assert "[agent] concurrency 2" in worker.text()

    done = world.run("blocks", "send", "write_down", "--part", "note=a word")

    assert json.loads(done.stdout) == {"partId": "note", "text": "a word"}


def script(world: World, code: str, *args: str) -> list[str]:
    """Run a program of a user's to its end; return the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        env=world.environment, cwd=world.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_first_consumer(world: World) -> None:
    """[A-9] Client and session in `with`, send by keywords, wait, look at the state, save the artifacts."""
    world.worker("echo")

    state, saved = script(world, QUICK_START)

    assert state == "state: completed completed"
    assert (world.folder / saved.removeprefix("saved: ")).read_text() == "Echoed request: Hello"


def test_a_provider_of_its_own(world: World) -> None:
    """[A-4] [R-1] A program starts an instance with options, asks itself by `task_client`, and stops it by item."""
    assert script(world, PROVIDER) == ["HELLO"]


def test_a_consumer_with_callbacks(world: World) -> None:
    """[A-9] [A-15] [D-15] Parts in every form, callbacks, streams, artifacts and lists, as the API is shown."""
    (world.folder / "full.py").write_text(FULL_CONTEXT)
    world.worker("full:handler")

    told, said = script(world, CONSUMER, "key-1")

    shown = ["completed", "completed", "1", "draft.txt", "said.txt", "one", "two", "three", "four"]
    assert told.split("|")[:9] == shown
    assert told.split("|")[9:] == ["for local", "LookupError in onTerminal"]
    assert said == "one two three four"
    assert script(world, CONSUMER, "key-1")[1] == said, "the same key gives the same task"
