"""The hub of a folder that nobody configured: which port it takes, keeps, and where it is refused."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from acceptance.conftest import free_port
from click.testing import CliRunner
from support import SeededEntropy, wait_until
from support_hub import running_hub
from support_squatter import NOT_FOUND, Squatter

from blocks_worker.cli.main import blocks
from blocks_worker.concurrency import Clock, Deadline, ServiceThread
from blocks_worker.config import DEFAULT_PORT, Connection
from blocks_worker.controlplane.whereabouts import CDM_PATH, port_of
from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.kept import Kept
from blocks_worker.runtime.entry import enter
from blocks_worker.runtime.local import LocalHubKeeper
from blocks_worker.state import LocalHub, StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def at(port: int) -> str:
    """Return the address of the document of a hub at this port."""
    return f"http://localhost:{port}{CDM_PATH}"


@contextmanager
def kept_by(folder: Path, told: str | None = None) -> Iterator[tuple[LocalHub, LocalHubKeeper]]:
    """Find the hub of the folder as a worker does; let it go at the end."""
    keeper = LocalHubKeeper(folder, told=told, clock=Clock(), entropy=SeededEntropy())
    try:
        yield keeper.find(20), keeper
    finally:
        keeper.stop(Deadline(10))


def test_an_address_where_nobody_answers_has_the_hub_started_there(tmp_path: Path) -> None:
    """[A-2] The hub comes to be at the port that was told, and its port is not kept for those who told none."""
    port = free_port()
    with kept_by(tmp_path, at(port)) as (hub, keeper):
        assert (port_of(hub.url), keeper.runs_hub) == (port, True)

    assert StateFolder(tmp_path).kept_port("hub") == 0


def test_an_address_beside_the_local_hub_is_refused(tmp_path: Path) -> None:
    """Nothing answers there and the local hub is elsewhere: it is not taken in silence, both places are named."""
    with running_hub(tmp_path) as hub:
        port = free_port()
        where = Connection(state_dir=tmp_path, cdm_url=at(port))
        with pytest.raises(ConfigurationError) as caught:
            enter(where, local_allowed=True, clock=Clock(), entropy=SeededEntropy())

        for said in (
            at(port),
            f"runs at {hub.address.url};",
            "unset BLOCKS_CDM_URL",
            f"port {port_of(hub.address.url)}",
        ):
            assert said in str(caught.value)


@pytest.mark.parametrize("command", ["doctor", "check"])
def test_doctor_and_check_tell_of_it(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a start would refuse is a finding, with both places and the cure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path / "state"))
    with running_hub(tmp_path / "state") as hub:
        monkeypatch.setenv("BLOCKS_CDM_URL", at(free_port()))
        done = CliRunner().invoke(blocks, [command, "--json"])

    (found,) = [one for one in json.loads(done.stdout) if one["level"] == "error"]
    assert done.exit_code == 1
    assert (found["where"], f"runs at {hub.address.url}" in found["text"]) == ("hub", True)
    assert "unset BLOCKS_CDM_URL" in found["cure"]


def test_a_port_that_was_told_and_is_taken_is_an_error(tmp_path: Path) -> None:
    """A neighbour of the port would be found by nobody who goes by the address."""
    port = free_port()
    with Squatter(port, NOT_FOUND), pytest.raises(ConfigurationError, match=f"port {port} .* in use; .*CDM_URL"):
        LocalHubKeeper(tmp_path, told=at(port), clock=Clock(), entropy=SeededEntropy()).find(20)


def test_any_free_port_is_kept_for_nobody(tmp_path: Path) -> None:
    """A hub with a port that it was given once leaves the usual one to the next."""
    with running_hub(tmp_path, port=0):
        pass

    assert StateFolder(tmp_path).kept_port("hub") == 0


def test_who_was_with_the_hub_starts_it_where_it_was(tmp_path: Path) -> None:
    """[R-30] A hub at a port that somebody else chose is gone: who takes it over does so there."""
    with kept_by(tmp_path, at(free_port())) as (hub, first), kept_by(tmp_path) as (joined, second):
        assert joined == hub
        first.stop(Deadline(10))
        wait_until(lambda: second.runs_hub, 20, "the takeover")

        assert StateFolder(tmp_path).discovered() == hub


def test_a_hub_that_nobody_placed_keeps_the_port_it_found(tmp_path: Path) -> None:
    """Where the usual port was taken its next start is where it was, and errors name that port."""
    with running_hub(tmp_path, port=DEFAULT_PORT, embedded=True) as hub:
        port = port_of(hub.address.url)

    assert StateFolder(tmp_path).kept_port("hub") == port
    Kept(StateFolder(tmp_path), SeededEntropy()).keep_port("hub", other := free_port())
    assert said(tmp_path, "tasks").startswith(f"blocks: no hub answers at http://127.0.0.1:{other}/")
    with kept_by(tmp_path) as (again, _):
        assert port_of(again.url) == other


def test_a_hub_that_is_away_is_told_at_the_first_refusal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits for a hub that he may not start says so at once, and once."""
    StateFolder(tmp_path).local_key()
    port = free_port()
    where = Connection(state_dir=tmp_path, cdm_url=at(port))
    entered: list[Any] = []
    thread = ServiceThread(
        "enter", lambda: entered.append(enter(where, local_allowed=False, clock=Clock(), entropy=SeededEntropy()))
    )
    thread.start()
    wait_until(lambda: "hub_away" in caplog.messages, what="the warning")
    with running_hub(tmp_path, port=port):
        assert thread.join(20)

    assert len(entered) == 1
    assert caplog.messages.count("hub_away") == 1


def said(folder: Path, *arguments: str) -> Any:
    """Return what a command says on standard error."""
    return CliRunner().invoke(blocks, arguments, env={"BLOCKS_STATE_DIR": str(folder)}).stderr
