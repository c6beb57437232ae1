"""Units for a service manager: what is shipped, and what a folder's differ in."""

from pathlib import Path

import pytest

from blocks_worker.cli.units import WorkerUnit, shipped, started

SHIPPED = Path(__file__).parents[3] / "deploy" / "systemd"


def test_what_is_shipped_is_what_the_package_makes() -> None:
    """One text is behind the files and the command; ./scripts/docs writes the files anew."""
    files = {path.name: path.read_text(encoding="utf-8") for path in SHIPPED.iterdir()}

    assert files == shipped()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["/opt/x/run", "--a", "b"], "/opt/x/run --a b"),
        (["/opt/my app/run"], "'/opt/my app/run'"),
        (["100%", "$HOME"], "100%% '$$HOME'"),
    ],
)
def test_words_are_kept_as_they_are(words: list[str], line: str) -> None:
    """Neither spaces nor what the manager would fill in changes a command."""
    assert started(words) == line


def test_the_manager_waits_longer_than_the_drain() -> None:
    """The time to stop follows the time to drain."""
    text = WorkerUnit(name="a", command=["run"], drain=300).text()

    assert "TimeoutStopSec=315\n" in text
    assert "--drain-timeout 300 " in text


def test_what_lies_in_a_home_can_be_read_there() -> None:
    """A service of a folder in a home sees homes, and runs as its owner."""
    text = WorkerUnit(name="a", command=["run"], folder=Path("/home/me/x"), user="me", sees_homes=True).text()

    lines = text.splitlines()
    assert {"ProtectHome=read-only", "User=me", "WorkingDirectory=/home/me/x"} <= set(lines)
    assert "DynamicUser=yes" not in lines
