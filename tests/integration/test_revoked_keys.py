"""Revoked keys over the life of a hub: across its restart, on its network, and when only the ledger was told."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from typing import TYPE_CHECKING, Any

from support import wait_until
from support_hub import Caller, running_hub

from blocks_worker.hub.core import DATABASE

if TYPE_CHECKING:
    from pathlib import Path

TASKS = "/api/v1/tasks"


def consumer_of_new_key(hub: Caller) -> tuple[str, dict[str, Any]]:
    """Return the id of a new key, and what it was traded for."""
    key = hub.ask("POST", "/api/v1/auth/keys", {"name": "n"}, bearer=hub.key).json
    return key["id"], hub.consumer(key["key"])


def poll(hub: Caller, consumer: dict[str, Any], since: str = "0") -> int:
    """Shake hands on the session channel, or wait for what comes; return the network's status."""
    keys = hub.ask("GET", "/api/v1/cdm").json["playground"]
    channel = consumer["sessionChannel"]
    query = {"uuid": channel.partition(".")[2], "auth": consumer["pamToken"], "tt": since}
    address = f"{hub.address.origin}/v2/subscribe/{keys['subscribeKey']}/{channel}/0"
    return int(hub.pool.request("GET", address, fields=query, timeout=20.0).status)


def test_the_network_refuses_the_grants_of_a_revoked_key(tmp_path: Path) -> None:
    """What was granted for an hour ends with the key."""
    with running_hub(tmp_path) as hub:
        key, consumer = consumer_of_new_key(hub)
        assert poll(hub, consumer) == 200
        hub.ask("DELETE", f"/api/v1/auth/keys/{key}", bearer=hub.key)

        assert poll(hub, consumer) == 403


def test_a_restart_forgets_no_revocation(tmp_path: Path) -> None:
    """The hub knows from its ledger, with its first answer."""
    with running_hub(tmp_path) as hub:
        key, consumer = consumer_of_new_key(hub)
        hub.ask("DELETE", f"/api/v1/auth/keys/{key}", bearer=hub.key)
    with running_hub(tmp_path) as hub:
        answered = hub.ask("GET", TASKS, bearer=consumer["accessToken"])

    assert (answered.status, answered.code) == (401, "TokenRevoked")


def test_a_key_that_was_revoked_in_the_ledger_ends_too(tmp_path: Path) -> None:
    """[A13] Its access tokens are refused within five seconds. [G2]"""
    with running_hub(tmp_path) as hub:
        _, consumer = consumer_of_new_key(hub)
        assert hub.ask("GET", TASKS, bearer=consumer["accessToken"]).status == 200
        with closing(sqlite3.connect(tmp_path / DATABASE, timeout=10)) as database, database:
            database.execute("UPDATE api_key SET revoked = 1 WHERE name = 'n'")

        # Five seconds, and as many for a machine that stands still.
        wait_until(lambda: hub.ask("GET", TASKS, bearer=consumer["accessToken"]).status == 401, 10, "refused")


def test_a_poll_that_waits_ends_with_its_key(tmp_path: Path) -> None:
    """A poll held when its key is revoked is refused soon, and brings nothing that was said since. [G2]"""
    with running_hub(tmp_path) as hub, ThreadPoolExecutor(1) as threads:
        key, consumer = consumer_of_new_key(hub)
        held = threads.submit(poll, hub, consumer, since="1")
        assert not wait([held], timeout=0.3).done
        hub.ask("DELETE", f"/api/v1/auth/keys/{key}", bearer=hub.key)

        assert held.result(10) == 403
