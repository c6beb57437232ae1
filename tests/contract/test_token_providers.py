"""What every token provider promises, an instance's and a consumer's, against a real hub."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from support import wait_until

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import HubConfig
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.entrances import KeyEntrance
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.tokens import ConsumerLogin, InstanceLogin
from blocks_worker.errors import AgentAuthFatalError
from blocks_worker.hub.core import DATABASE
from blocks_worker.hub.hub import Hub
from blocks_worker.protocol.leases import ConnectRequest
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Login = InstanceLogin | ConsumerLogin


class Place:
    """A hub on a folder, which a test stops and starts, and logins at it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind, self._port = folder, kind, 0
        self._hub: Hub | None = None
        self._https: list[Http] = []

    def start(self, **lives: int) -> None:
        """Start the hub where it was."""
        self._hub = Hub(HubConfig(state_dir=self._folder, port=self._port, **lives))
        self._url = self._hub.start().url
        self._port = int(self._url.rpartition(":")[2])

    def stop(self) -> None:
        """Stop the hub."""
        hub, self._hub = self._hub, None
        if hub is not None:
            hub.stop(Deadline(20))

    def login(self, key: str | None = None) -> Login:
        """Return a login that has not connected."""
        http = Http(self._url, timeout=20.0)
        self._https.append(http)
        own = StateFolder(self._folder).local_key() if key is None else key
        if self._kind == "consumer":
            return ConsumerLogin(http=http, entrance=KeyEntrance(HubApi(http), own), clock=Clock(), entropy=Entropy())
        request = ConnectRequest(agent_name="echo", instance_id="one", incarnation=Entropy().name(8))
        return InstanceLogin(http=http, api_key=own, request=request, clock=Clock(), entropy=Entropy())

    def pairs(self) -> int:
        """Return how many pairs of tokens the hub has given away."""
        with closing(sqlite3.connect(self._folder / DATABASE)) as database:
            (count,) = database.execute("SELECT count(*) FROM refresh_token").fetchone()
        return int(count)

    def revoke(self) -> None:
        """Take every key back, and every refresh token with it."""
        with closing(sqlite3.connect(self._folder / DATABASE, timeout=10)) as database, database:
            database.execute("UPDATE api_key SET revoked = 1")
            database.execute("UPDATE refresh_token SET used = 1")

    def close(self) -> None:
        """End everything."""
        for http in self._https:
            http.close()
        self.stop()


@pytest.fixture(params=["instance", "consumer"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a place for each kind of login."""
    place = Place(tmp_path, request.param)
    yield place
    place.close()


@contextmanager
def renewing(login: Login) -> Iterator[None]:
    """Let the login renew its tokens ahead of time."""
    login.start()
    try:
        yield
    finally:
        login.close(Deadline(30))


def test_a_pair_is_renewed_before_it_ends(place: Place) -> None:
    """[3.3] With nobody asking, both tokens are replaced at 80 % of the shorter life, and the thread ends."""
    place.start(access_life=2)
    login = place.login()
    login.connect()
    access, grant = login.access_token(), login.token()
    before = set(threading.enumerate())
    with renewing(login):
        wait_until(lambda: login.access_token() != access, what="a new pair")

    assert login.token() != grant
    assert "token-refresh" not in {thread.name for thread in set(threading.enumerate()) - before}


def test_of_many_who_are_refused_one_asks(place: Place) -> None:
    """[3.3, A13] Ten callers with one refused token cause one new pair, which all get; late news cause none."""
    place.start()
    login = place.login()
    login.connect()
    before, refused = place.pairs(), login.access_token()
    together = threading.Barrier(10)

    def replace() -> tuple[bool, str]:
        together.wait(30)
        return login.on_unauthorized(refused), login.access_token()

    with ThreadPoolExecutor(10) as pool:
        answers = [future.result(60) for future in [pool.submit(replace) for _ in range(10)]]

    assert answers == [(True, login.access_token())] * 10
    assert login.access_token() != refused
    assert login.on_unauthorized(refused)
    assert place.pairs() == before + 1


def test_a_key_that_is_refused_is_final(place: Place) -> None:
    """[3.3] An unknown key raises by name with the first try."""
    place.start()
    with pytest.raises(AgentAuthFatalError) as caught:
        place.login("bk_unknown").connect()

    assert caught.value.code == "API_KEY_INVALID"


def test_a_key_that_was_taken_back_is_final(place: Place) -> None:
    """[3.3, A13] When the key is revoked no new pair comes, and no other connect either."""
    place.start()
    login = place.login()
    login.connect()
    place.revoke()

    assert not login.refresh(None)
    with pytest.raises(AgentAuthFatalError):
        login.connect()


def test_a_hub_that_was_away_is_found_again(place: Place) -> None:
    """[R-25] While the hub is away the old pair stays; the same login goes on when the hub is back."""
    place.start()
    login = place.login()
    login.connect()
    access = login.access_token()
    place.stop()

    assert not login.refresh(None)
    assert login.access_token() == access

    place.start()
    assert login.refresh(None)
    assert login.access_token() != access
