"""`blocks check`: what it finds, and that it changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from support_hub import running_hub

from blocks_worker.cli.main import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CARD: dict[str, Any] = {
    "identity": {"agentName": "carded", "displayName": "Carded", "description": "d", "version": "1"},
    "runtime": {"handler": "mine.py"},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder with a state folder of its own that is not there yet."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path / "state"))
    yield work
    assert not (tmp_path / "state").exists(), "a check must change nothing"


def checked(*arguments: str) -> Result:
    """Run `blocks check`."""
    return CliRunner().invoke(blocks, ["check", *arguments])


def put(folder: Path, card: dict[str, Any], code: str = "def handler(task): ...\n") -> None:
    """Write a card and its handler."""
    (folder / "agent-card.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / "mine.py").write_text(code, encoding="utf-8")


def test_an_empty_folder_is_sound() -> None:
    """Without card and registry there is the built-in echo, and blocks-run would start a hub."""
    result = checked()

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "note: agent: echo: 1 slot, handler can be called",
        "note: hub: no local hub runs; 'blocks-run' starts one",
    ]


def test_every_finding_of_a_card_is_a_line_with_its_cure(folder: Path) -> None:
    """[R-59, D-4] Warnings of a start are told with the errors, each with path and cure, and both fail the check."""
    put(folder, {**CARD, "bogus": 1, "runtime": {"handler": "mine.py", "concurrency": "2"}, "skills": [{"id": "a"}]})

    result = checked()

    assert result.exit_code == 1
    assert result.stdout.splitlines()[:3] == [
        "error: card: runtime.concurrency: must be integer, not string; change it",
        "warning: card: bogus: unknown key; known are $schema, identity, capabilities, tags, skills, runtime, io, "
        "streams, security, services, extensions; mend its name, or take it out: nothing reads it",
        "warning: card: skills[0].name: is missing; add it",
    ]


def test_a_warning_alone_fails_the_check(folder: Path) -> None:
    """[D-4] What a start only warns of is an error of the check."""
    put(folder, {**CARD, "bogus": 1})

    assert checked().exit_code == 1


def test_encryption_is_said_not_to_happen(folder: Path) -> None:
    """[R-63] A card that declares encryption is told that payloads are not encrypted."""
    put(folder, {**CARD, "security": {"encryption": {"supported": True}}})

    result = checked()

    assert result.exit_code == 0, result.output
    assert "payloads are NOT encrypted" in result.stdout


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def handler(): ...\n", "takes no argument"),
        ("def handler(a, b, c): ...\n", "needs a, b, c"),
        ("handler = 3\n", "not callable"),
        ("def other(task): ...\n", "has no 'handler'"),
        ("import nothing_of_this_name\n", "cannot load"),
    ],
)
def test_a_handler_that_cannot_serve_is_found(folder: Path, code: str, told: str) -> None:
    """The handler is imported and its signature read."""
    put(folder, CARD, code)

    result = checked()

    assert (result.exit_code, result.stdout.count("error: handler")) == (1, 1)
    assert told in result.stdout


def test_each_handler_of_the_registry_is_checked(folder: Path) -> None:
    """Entry points, needed variables and cards of all of the file's own handlers are looked at."""
    (folder / "checked_handlers.py").write_text("def good(task): ...\n", encoding="utf-8")
    (folder / "bad-card.json").write_text('{"identity": {"agentName": "c"}, "runtime": 3}', encoding="utf-8")
    entries = [
        {"name": "good", "entrypoint": "checked_handlers:good"},
        {"name": "env", "entrypoint": "checked_handlers:good", "requiresEnv": ["SURELY_NOT_SET"]},
        {"name": "lost", "entrypoint": "checked_handlers:lost"},
        {"name": "c", "entrypoint": "checked_handlers:good", "card": "bad-card.json"},
    ]
    handlers = [{"runtime": "python", **entry} for entry in entries]
    (folder / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": handlers}), encoding="utf-8")

    found = json.loads(checked("--json").stdout)
    errors = {one["where"]: one["text"] for one in found if one["level"] == "error"}

    assert errors.keys() == {"handler 'env'", "handler 'lost'", "card of 'c'"}
    assert "SURELY_NOT_SET" in errors["handler 'env'"]
    assert ("note", "good: 1 slot, handler can be called") in [(one["level"], one["text"]) for one in found]
    assert checked("--handler", "good").exit_code == 0


def test_a_broken_registry_is_one_finding(folder: Path) -> None:
    """The place in the file is told, and the hub is looked at all the same."""
    (folder / "registry.json").write_text("{", encoding="utf-8")

    found = json.loads(checked("--json").stdout)

    assert [(one["level"], one["where"]) for one in found] == [("error", "registry"), ("note", "hub")]


def test_a_missing_key_is_found_before_any_network_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub elsewhere asks for a key, and one that does not answer is an error."""
    monkeypatch.setenv("BLOCKS_CDM_URL", "https://nowhere.invalid/cdm")
    monkeypatch.delenv("BLOCKS_API_KEY", raising=False)

    found = json.loads(checked("--json").stdout)

    assert [(one["level"], one["where"]) for one in found if one["level"] == "error"] == [
        ("error", "environment"),
        ("error", "hub"),
    ]
    assert all(one["cure"] for one in found if one["level"] == "error")


def test_a_hub_that_runs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is asked whether it answers, and is left as it is."""
    monkeypatch.setattr("blocks_worker.cli.checks.hub._PATIENCE", 30.0)
    with running_hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("BLOCKS_CDM_URL", f"{hub.address.url}/api/v1/cdm")
        result = checked("--no-local")

    assert result.exit_code == 0, result.output
    assert f"note: hub: {hub.address.url} answers" in result.stdout


def test_without_a_local_hub_a_hub_has_to_be_named() -> None:
    """With --no-local there has to be a hub somewhere."""
    result = checked("--no-local")

    assert result.exit_code == 1
    assert "error: hub: no local hub runs; start it, or set BLOCKS_CDM_URL" in result.stdout


def test_a_card_that_is_no_json_is_told_by_file_and_line(folder: Path) -> None:
    """[D-4] The finding is the card's, not the handler's, and names the file and the line."""
    put(folder, CARD)
    (folder / "agent-card.json").write_text('{\n  "identity": {,}\n}\n', encoding="utf-8")

    result = checked()

    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == (
        f"error: card: {folder / 'agent-card.json'} line 2 column 16: "
        "Expecting property name enclosed in double quotes; mend it there, a card is JSON"
    )
