from pathlib import Path

import pytest
from click.testing import CliRunner

from blocks_worker import __version__
from blocks_worker.cli.main import blocks


def test_the_commands_are_listed() -> None:
    """The help names every command."""
    lines = CliRunner().invoke(blocks, ["--help"]).stdout.splitlines()

    assert [line.split()[0] for line in lines[lines.index("Commands:") + 1 :]] == [
        "agents",
        "backup",
        "cancel",
        "check",
        "dead",
        "deploy",
        "dev",
        "doctor",
        "drain",
        "init",
        "instances",
        "keys",
        "pause",
        "purge",
        "restore",
        "resume",
        "retry",
        "run",
        "send",
        "task",
        "tasks",
        "top",
        "watch",
    ]


def test_the_version_is_told() -> None:
    """--version tells the package's."""
    assert __version__ in CliRunner().invoke(blocks, ["--version"]).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["agents"],
        ["agents", "offline", "echo"],
        ["keys", "list"],
        ["tasks", "--limit", "3"],
        ["send", "echo", "Hello"],
        ["watch", "t"],
        ["cancel", "t", "--reason", "enough"],
    ],
)
def test_without_a_hub_one_line_says_how_to_start_one(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[2.2] No hub is exit 4, and the line names blocks-run and blocks-hub."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(blocks, arguments)

    assert (result.exit_code, result.stderr.count("\n")) == (4, 1)
    assert "blocks-run" in result.stderr
    assert "blocks-hub" in result.stderr


def test_in_a_clone_the_commands_of_a_sentence_are_its_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not activated the environment is told what works from where he is."""
    (tmp_path / "scripts").mkdir()
    for name in ("run", "hub", "blocks"):
        (tmp_path / "scripts" / name).touch()
    monkeypatch.chdir(tmp_path)

    said = CliRunner().invoke(blocks, ["agents"]).stderr

    assert "'./scripts/run --handler echo' or './scripts/hub'" in said


def test_a_hub_address_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of BLOCKS_CDM_URL that is no address and no file is said to be that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOCKS_CDM_URL", "foo")
    result = CliRunner().invoke(blocks, ["agents"])

    assert result.exit_code == 1
    assert "BLOCKS_CDM_URL='foo' is neither an address (http://…, https://…) nor a file that is there" in result.stderr


def test_an_address_is_told_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[G8] A hub's address takes none; the sentence that says so does not show it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOCKS_CDM_URL", "http://me:canary@127.0.0.1:9/x")
    monkeypatch.setenv("BLOCKS_API_KEY", "bk_x")
    result = CliRunner().invoke(blocks, ["agents"])

    assert result.exit_code == 1
    assert "'http://me:***@127.0.0.1:9' is not the address of a hub" in result.stderr
    assert "canary" not in result.output


@pytest.mark.parametrize("address", ["http://[x", "http://h:port", "http://h:99999/x", "http://"])
def test_an_address_that_cannot_be_one_is_told_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an IPv6 address and a port that is none are no address."""
    monkeypatch.setenv("BLOCKS_CDM_URL", address)
    result = CliRunner().invoke(blocks, ["agents"])

    assert (result.exit_code, "is neither an address" in result.stderr) == (1, True), result.output


def test_a_text_that_is_too_long_is_sent_to_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input over the limit is not read to its end, and the line names the option that takes it."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(blocks, ["send", "echo", "-"], input="x" * 2_000_000)

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "--file, which takes 26214400 bytes" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["send"],
        ["send", "echo", "--part", "nosign"],
        ["send", "echo", "--part", "=x"],
        ["send", "echo", "--file", "/nowhere/at/all"],
        ["send", "echo", "--billing-mode", "barter"],
        ["tasks", "--limit", "0"],
        ["watch"],
        ["cancel"],
        ["cancel", "t", "--reason", "x" * 1025],
        ["nothing"],
    ],
)
def test_a_wrong_command_line_is_exit_2(arguments: list[str]) -> None:
    """Usage is exit 2."""
    assert CliRunner().invoke(blocks, arguments).exit_code == 2


@pytest.mark.parametrize(("typed", "said"), [("cancle", "did you mean cancel?"), ("xyzzy", "No such command 'xyzzy'.")])
def test_a_command_that_there_is_not_gets_the_near_one(typed: str, said: str) -> None:
    """A slip is told with the command that was meant."""
    result = CliRunner().invoke(blocks, [typed, "t"])

    assert result.exit_code == 2
    assert said in result.stderr
