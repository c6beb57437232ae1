import pytest
from click.testing import CliRunner

from blocks_worker import __version__
from blocks_worker.cli.main import blocks


def test_the_commands_are_listed() -> None:
    """The help names every command."""
    lines = CliRunner().invoke(blocks, ["--help"]).stdout.splitlines()

    assert [line.split()[0] for line in lines[lines.index("Commands:") + 1 :]] == [
        "agents",
        "run",
        "send",
        "tasks",
        "watch",
    ]


def test_the_version_is_told() -> None:
    """--version tells the package's."""
    assert __version__ in CliRunner().invoke(blocks, ["--version"]).stdout


@pytest.mark.parametrize(
    "arguments", [["agents"], ["tasks", "--limit", "3"], ["send", "echo", "Hello"], ["watch", "t"]]
)
def test_without_a_hub_one_line_says_how_to_start_one(arguments: list[str]) -> None:
    """[2.2] No hub is exit 4, and the line names blocks-run and blocks-hub."""
    result = CliRunner().invoke(blocks, arguments)

    assert (result.exit_code, result.stderr.count("\n")) == (4, 1)
    assert "blocks-run" in result.stderr
    assert "blocks-hub" in result.stderr


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
        ["nothing"],
    ],
)
def test_a_wrong_command_line_is_exit_2(arguments: list[str]) -> None:
    """Usage is exit 2."""
    assert CliRunner().invoke(blocks, arguments).exit_code == 2
