"""What talks to the hub when the hub is elsewhere, or somebody else is where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support_http import HANG_UP, reply, served
from support_hub import running_hub

from blocks_worker.client.settings import Wishes, finder
from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.config import ClientConfig, Connection
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.tokens import InstanceLogin
from blocks_worker.errors import AgentAuthFatalError, HubUnavailableError
from blocks_worker.protocol.leases import ConnectRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_calls_go_where_the_hub_moved() -> None:
    """After a move the next call is at the new address, its path included; the same address is no move."""
    with served(reply(200)) as (before, http), served(reply(200)) as (after, _):
        http.call("GET", "/x")
        http.move(http.base_url + "/")
        http.move(f"{after.url}/other")
        http.call("GET", "/y")

        assert http.base_url == f"{after.url}/other"
    assert len(before.requests) == 1
    assert after.requests[0].startswith(b"GET /other/y ")


def test_a_closed_one_moves_nowhere() -> None:
    """Who was closed stays closed."""
    with served() as (_, http), served() as (after, _):
        http.close()
        http.move(after.url)

        with pytest.raises(HubUnavailableError, match="closed"):
            http.call("GET", "/x")


@pytest.mark.parametrize(
    ("step", "doubts"),
    [
        (reply(200), 0),
        (reply(204, b""), 0),
        (reply(404, b'{"code":"NotFound"}'), 0),
        (reply(401, b'{"code":"TOKEN_INVALID"}'), 1),
        (reply(404, b"<h1>no</h1>"), 1),
        (reply(200, b"hello"), 1),
    ],
    ids=["good", "empty", "refused", "unknown here", "no hub", "a page"],
)
def test_what_is_strange_is_told(step: bytes, doubts: int) -> None:
    """Whoever looks after the hub hears of answers that no hub of ours gives."""
    heard: list[int] = []
    with served(step) as (server, _):
        http = Http(server.url, on_doubt=lambda: heard.append(1))
        http.call("GET", "/x")
        http.close()

    assert len(heard) == doubts


def test_no_answer_is_told() -> None:
    """So does he when nothing answers; not when it was closed here."""
    heard: list[int] = []
    with served(HANG_UP, HANG_UP) as (server, _):
        http = Http(server.url, on_doubt=lambda: heard.append(1))
        with pytest.raises(HubUnavailableError):
            http.call("GET", "/x")
        http.close()
        with pytest.raises(HubUnavailableError):
            http.call("GET", "/x")

    assert len(heard) == 1


def login_at(http: Http, key: str, is_hub: Callable[[], bool]) -> InstanceLogin:
    """Return the login of an instance that looks by `is_hub` whether its hub is where it asks."""
    return InstanceLogin(
        http=http,
        api_key=key,
        request=ConnectRequest(agent_name="echo", instance_id="one", incarnation="life"),
        clock=Clock(),
        entropy=Entropy(),
        is_hub=is_hub,
    )


def test_a_stranger_refuses_nobody_for_good(tmp_path: Path) -> None:
    """What another hub says of a key of ours ends nothing; what our own hub says does, as does the first answer."""
    with running_hub(tmp_path / "ours") as ours, running_hub(tmp_path / "other") as other:
        http = Http(ours.address.url)
        ours_is_there = False
        login = login_at(http, ours.key, lambda: ours_is_there)
        login.connect()
        http.move(other.address.url)
        with pytest.raises(HubUnavailableError, match="not our hub"):
            login.connect()
        ours_is_there = True
        with pytest.raises(AgentAuthFatalError):
            login.connect()
        http.close()


def test_a_refusal_from_where_our_hub_was_is_not_its_own(tmp_path: Path) -> None:
    """A stranger refuses while another thread finds our hub elsewhere: the look that follows finds nothing new."""
    with running_hub(tmp_path / "ours") as ours, running_hub(tmp_path / "other") as other:
        http = Http(ours.address.url)

        def found_by_another() -> bool:
            http.move(ours.address.url)
            return True

        login = login_at(http, ours.key, found_by_another)
        login.connect()
        http.move(other.address.url)
        with pytest.raises(HubUnavailableError, match="not our hub"):
            login.connect()

        assert login.connect().agent_id
        http.close()


def test_a_first_refusal_is_for_good(tmp_path: Path) -> None:
    """Who was never known to the hub has been refused by whom he asked."""
    with running_hub(tmp_path) as ours:
        http = Http(ours.address.url)
        login = login_at(http, "bk_" + "0" * 40, lambda: False)
        with pytest.raises(AgentAuthFatalError):
            login.connect()
        http.close()


def test_a_client_that_was_told_all_looks_for_nothing(tmp_path: Path) -> None:
    """Address and both keys given: there is no document to read again; with less there is."""
    config = ClientConfig(connection=Connection(state_dir=tmp_path))
    told = Wishes(base_url="https://hub.example", subscribe_key="sub", publish_key="pub", api_key="bk_x")
    less = Wishes(base_url="https://hub.example", api_key="bk_x")

    assert finder(told, config, "free", "bk_x") is None
    assert finder(less, config, "free", "bk_x") is not None


def test_a_client_finds_the_hub_of_its_state_folder(tmp_path: Path) -> None:
    """Entered with the folder's key it follows the folder's hub, whatever address was told; else it keeps to that."""
    with running_hub(tmp_path / "ours") as ours, running_hub(tmp_path / "other") as other:
        told = Wishes(cdm_url=f"{other.address.url}/api/v1/cdm")
        config = ClientConfig(connection=Connection(state_dir=tmp_path / "ours"))
        by_folder = finder(told, config, "free", ours.key)
        by_key = finder(Wishes(cdm_url=told.cdm_url, api_key=other.key), config, "free", other.key)
        assert by_folder is not None
        assert by_key is not None

        assert by_folder().hub_url == ours.address.url
        assert by_key().hub_url == other.address.url
