"""The fault proxy of the tests does what it says: nothing, or exactly the fault that was asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support import wait_until
from support_hub import running_hub
from support_proxy import Fault, FaultProxy

from blocks_worker.config import state_dir
from blocks_worker.controlplane.http import Http
from blocks_worker.errors import HubUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

LIVE = "/api/v1/cdm"


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """Run a hub and a proxy before it."""
    with running_hub(state_dir()) as hub, FaultProxy(hub.address.url) as made:
        yield made


@pytest.fixture
def http(proxy: FaultProxy) -> Iterator[Http]:
    """Open connections to the proxy."""
    made = Http(proxy.url, timeout=20)
    yield made
    made.close()


def test_it_passes_what_comes(proxy: FaultProxy, http: Http) -> None:
    """Without a fault every exchange of a kept connection goes through and is listed."""
    assert [http.call("GET", LIVE).status for _ in range(3)] == [200, 200, 200]
    assert http.call("POST", "/api/v1/tasks", body=b"[]").status == 401
    assert [(one.number, one.method, one.status) for one in proxy.exchanges] == [
        (0, "GET", 200), (1, "GET", 200), (2, "GET", 200), (3, "POST", 401),
    ]  # fmt: skip


@pytest.mark.parametrize(("fault", "seen"), [(Fault.DROP_REQUEST, None), (Fault.DROP_REPLY, 200)])
def test_it_drops(proxy: FaultProxy, http: Http, fault: Fault, seen: int | None) -> None:
    """A dropped request is not seen by the server, a dropped reply is; what comes after goes through."""
    proxy.fail(fault, times=2)  # the connections repeat a call once by themselves

    with pytest.raises(HubUnavailableError):
        http.call("GET", LIVE)

    assert [one.status for one in proxy.exchanges] == [seen, seen]
    assert http.call("GET", LIVE).status == 200


def test_it_cuts_and_heals(proxy: FaultProxy, http: Http) -> None:
    """While it is cut nothing goes through, not even on an open connection; healed, everything does."""
    http.call("GET", LIVE)
    proxy.cut()
    with pytest.raises(HubUnavailableError):
        http.call("GET", LIVE)
    proxy.heal()

    assert http.call("GET", LIVE).status == 200


def test_it_swallows_until_it_heals(proxy: FaultProxy, http: Http) -> None:
    """In the black hole a caller waits in vain; what it swallowed never reaches the server."""
    proxy.black_hole()
    with pytest.raises(HubUnavailableError, match="no answer in time"):
        http.call("GET", LIVE, timeout=0.2)
    wait_until(lambda: proxy.exchanges, what="the request")
    proxy.heal()

    assert http.call("GET", LIVE).status == 200
    assert [one.status for one in proxy.exchanges] == [None, 200]


def test_it_holds_back(proxy: FaultProxy, http: Http) -> None:
    """A delayed request arrives when the proxy heals, or after its time."""
    proxy.delay(60)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(http.call, "GET", LIVE)
        wait_until(lambda: proxy.exchanges, what="the request")
        assert not late.done()
        # It is listed a moment before it is held back, so once may be too early.
        wait_until(lambda: proxy.heal() or late.done(), what="the answer")
        assert late.result(10).status == 200


def test_it_ends_clean() -> None:
    """Stopping ends its threads, also those that hold somebody back, who learns of it at once."""
    with running_hub(state_dir()) as hub, ThreadPoolExecutor(1) as pool:
        with FaultProxy(hub.address.url) as proxy:
            http = Http(proxy.url, timeout=20)
            proxy.black_hole()
            lost = pool.submit(http.call, "GET", LIVE)
            wait_until(lambda: proxy.exchanges, what="the request")
        with pytest.raises(HubUnavailableError):
            lost.result(10)
        http.close()

    assert not [thread for thread in threading.enumerate() if thread.name == "fault-proxy"]
