"""The card on the whole way: an instance, a hub and a client that speak over the network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support_hub import running_hub

from blocks_worker import TaskClient, start_agent_instance
from blocks_worker.client.parts import file_part, json_part, text_part
from blocks_worker.config import state_dir
from blocks_worker.errors import RpcError
from blocks_worker.protocol.cards import check_card

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.client.events import TaskEvent

PAGE = Path(__file__).parents[2] / "docs/cards.md"
PIXELS = b"\x89PNG" + b"x" * 20_000
CARD: dict[str, Any] = {
    "identity": {"agentName": "resize", "displayName": "R", "description": "d", "version": "1"},
    "io": {
        "inputs": [
            {
                "id": "options",
                "description": "d",
                "contentType": "application/json",
                "required": True,
                "schema": {"properties": {"width": {"type": "integer"}}, "required": ["width"]},
                "example": {"width": 1},
            },
            {
                "id": "photo",
                "description": "d",
                "contentType": "image/*",
                "required": False,
                "maxSizeBytes": len(PIXELS),
            },
        ]
    },
}
SCRIPT = """
import sys
from blocks_worker import start_agent_instance
with start_agent_instance({"agent_name": "echo", "handler": lambda task: "x", "tags": ["a"]}) as instance:
    instance.wait_ready(30)
    print("jsonschema" in sys.modules)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskClient]:
    """Serve an agent with inputs and give a client of its hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKS_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        options = {"handler": lambda task: f"width {task.json('options')['width']}", "card": CARD}
        with running_hub(state_dir()), start_agent_instance(options) as instance, TaskClient.create("free") as made:
            instance.wait_ready(30)
            yield made


def ended(client: TaskClient, *parts: Any) -> TaskEvent:
    """Send a task and return its end."""
    with client.send_message("resize", list(parts)) as session:
        return session.wait_for_terminal(30)


def test_what_fits_is_done(client: TaskClient) -> None:
    """[R-59] A form as text and a stored file of just the size that is allowed reach the handler."""
    event = ended(client, json_part({"width": 3}, "options"), file_part(PIXELS, part_id="photo", file_name="a.png"))

    assert (event.state, event.error) == ("completed", None)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([], "part 'options' is missing"),
        ([json_part({"width": "x"}, "options")], "width: must be integer, not string"),
        ([json_part({"width": 1}, "options"), file_part(PIXELS + b"x", part_id="photo", file_name="a.png")], "20005"),
        (
            [file_part(json.dumps({"height": "x" * 20_000}).encode(), part_id="options", file_name="o.json")],
            "part 'options' does not fit its schema: width: is missing",
        ),
    ],
)
def test_what_does_not_fit_fails_by_its_part(client: TaskClient, parts: list[Any], told: str) -> None:
    """[R-59] The consumer reads which part is wrong and why, for a stored form and a stored file as well."""
    event = ended(client, *parts)

    assert (event.state, event.error_code) == ("failed", "invalid_input")
    assert told in str(event.error)


def test_a_part_that_the_card_lacks_never_becomes_a_task(client: TaskClient) -> None:
    """[R-59] The submit is refused, and the error names the ids that there are."""
    with pytest.raises(RpcError, match="knows options, photo") as refused:
        ended(client, text_part("hello"))

    assert refused.value.code == "InvalidInput"


def test_a_start_without_a_card_needs_no_schema() -> None:
    """[D-4] An agent without a card, its hub in the same process, never loads what only cards need."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_the_card_of_the_page_is_right() -> None:
    """The example of docs/cards.md has no finding."""
    (example,) = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)

    assert check_card(json.loads(example)).is_clean
