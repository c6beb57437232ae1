"""TokenKeeper: one renewal for all who were refused, and trying that never stops."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.controlplane.keeper import TokenKeeper, TokenPair
from blocks_worker.errors import AgentAuthFatalError, AuthRefreshFailedError, HubUnavailableError, RpcError


class Login:
    """Give numbered pairs, or fail as told."""

    def __init__(self, life: float = 3600.0) -> None:
        self.life = life
        self.made = 0
        self.acquired = 0
        self.failure: Exception | None = None
        self.used_up = False
        self.gate = threading.Event()
        self.gate.set()
        self.told: list[Exception] = []
        self.keeper = TokenKeeper(
            acquire=self.acquire, renew=self.renew, clock=Clock(), entropy=Entropy(), on_auth_error=self.told.append
        )
        self.keeper.use(self.acquire())

    def acquire(self) -> TokenPair:
        """Log in anew."""
        self.acquired += 1
        return self.pair()

    def renew(self, refresh_token: str) -> TokenPair:
        """Trade a refresh token."""
        assert self.gate.wait(60)
        if self.used_up:
            raise RpcError("used", code="REFRESH_TOKEN_INVALID", status=401)
        assert refresh_token == f"r{self.made}"
        return self.pair()

    def pair(self) -> TokenPair:
        """Return the next pair."""
        if self.failure is not None:
            raise self.failure
        self.made += 1
        return TokenPair(f"a{self.made}", f"r{self.made}", f"g{self.made}", self.life)


def test_single_flight() -> None:
    """[3.3] Many who are refused together cause one renewal, whose result all get."""
    login = Login()
    login.gate.clear()
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(login.keeper.replace, "a1") for _ in range(10)]
        login.gate.set()

        assert all(answer.result(60) for answer in answers)
    assert login.made == 2


def test_old_news() -> None:
    """Who was refused with a token that is replaced already is told so, without a renewal."""
    login = Login()
    assert login.keeper.replace("g1")
    assert login.keeper.replace("a1")

    assert login.made == 2


def test_used_up_refresh_token() -> None:
    """[3.3] Where the refresh token is not taken any more, the key is used again."""
    login = Login()
    login.used_up = True

    assert login.keeper.replace("a1")
    assert (login.acquired, login.keeper.pair().access) == (2, "a2")


def test_three_failures_are_recorded_and_told_once() -> None:
    """[3.3] Three failures in a row are recorded and told with the first cause; success clears the record."""
    login = Login()
    login.failure = HubUnavailableError("http://hub")
    tried = [login.keeper.replace(None) for _ in range(4)]

    assert tried == [False] * 4
    assert login.told == [login.failure]
    with pytest.raises(AuthRefreshFailedError) as caught:
        login.keeper.ensure_ready()
    assert caught.value.__cause__ is login.failure
    login.failure = None
    login.keeper.ensure_ready()
    assert login.keeper.error() is None


def test_fatal_refusal_is_recorded_at_once() -> None:
    """A key that is refused for good is recorded with the first failure."""
    login = Login()
    login.failure = AgentAuthFatalError("revoked", code="API_KEY_INVALID")

    assert not login.keeper.replace("a1")
    with pytest.raises(AgentAuthFatalError):
        login.keeper.ensure_ready()
