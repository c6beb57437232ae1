"""Keys that are changed while everything goes on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from support import wait_until
from support_hub import Caller, running_hub

from blocks_worker import AgentInstanceOptions, TaskClient, start_agent_instance
from blocks_worker.config import worker_config
from blocks_worker.hub.audit import ACTS
from blocks_worker.hub.auth.signing import read_keys
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from pathlib import Path

#: How often the key is changed.
CHANGES = 10


def test_keys_are_changed_under_load(tmp_path: Path) -> None:
    """A new key is made and used, then the old one is revoked, again and again: no call fails. [G10]"""
    with running_hub(tmp_path) as hub:
        current, failed = new_key(hub), list[object]()
        used: dict[int, list[str]] = {number: [] for number in range(3)}
        over = threading.Event()

        def call(number: int) -> None:
            own = Caller(hub.address, hub.key)
            while not over.is_set():
                key = current["key"]
                answered = own.ask("POST", "/api/v1/auth/agent/consumer-token", {"apiKey": key})
                listed = own.ask("GET", "/api/v1/tasks", bearer=str(answered.json.get("accessToken")))
                failed.extend(one for one in (answered, listed) if one.status != 200)
                used[number].append(key)
            own.pool.clear()

        def all_use_it() -> bool:
            return all(keys[-1:] == [current["key"]] for keys in used.values())

        threads = [threading.Thread(target=call, args=(number,)) for number in used]
        for thread in threads:
            thread.start()
        old: list[str] = []
        try:
            for _ in range(CHANGES):
                before, current = current, new_key(hub)
                wait_until(all_use_it, what="the new key")
                assert usable(hub, before["key"]), "two hold at once"
                assert hub.ask("DELETE", f"/api/v1/auth/keys/{before['id']}", bearer=hub.key).status == 204
                old.append(before["key"])
        finally:
            over.set()
            for thread in threads:
                thread.join(20)

        assert failed == []
        assert len({key for keys in used.values() for key in keys}) == CHANGES + 1
        assert not any(usable(hub, key) for key in old)


def new_key(hub: Caller) -> dict[str, str]:
    """Make a key of one owner."""
    return dict(hub.ask("POST", "/api/v1/auth/keys", {"name": "rotated", "owner": "carol"}, bearer=hub.key).json)


def usable(hub: Caller, key: str) -> bool:
    """Tell whether a key opens the hub."""
    return hub.ask("POST", "/api/v1/auth/agent/consumer-token", {"apiKey": key}).status == 200


def test_the_hubs_own_key_is_changed_under_load(tmp_path: Path) -> None:
    """A new key signs, again and again, while tasks run: no call fails, and no token ends before its time. [G10]"""
    with running_hub(tmp_path) as hub:
        first = hub.consumer()["accessToken"]
        options = {"agent_name": "echo", "handler": lambda task: task.text(), "cdm_url": cdm_of(hub)}
        config = worker_config({"BLOCKS_STATE_DIR": str(tmp_path), "BLOCKS_API_KEY": hub.key})
        with (
            start_agent_instance(AgentInstanceOptions(**options), config=config),
            TaskClient.create("free", cdm_url=cdm_of(hub), api_key=hub.key) as client,
        ):
            load = Load(hub, client, first)
            for _ in range(CHANGES):
                rotated(hub)
                load.goes_on()
            failed, ended = load.stop()

        assert failed == []
        assert set(ended) == {"completed"}
    with running_hub(tmp_path) as again:
        assert again.ask("GET", "/api/v1/tasks", bearer=first).status == 200, "the keys are there after a restart"
    told = (tmp_path / ACTS).read_text()
    keys = read_keys(StateFolder(tmp_path))

    assert (told.count('"signing_key_rotated"'), len(keys)) == (CHANGES, CHANGES + 1)
    assert not any(key.secret.hex() in told for key in keys)


class Load:
    """Send tasks, log in, and call with the newest token and with the first one, until told to stop."""

    def __init__(self, hub: Caller, client: TaskClient, first: str) -> None:
        self._hub, self._client, self._first = hub, client, first
        self._over = threading.Event()
        self._failed: list[object] = []
        self._ended: list[str] = []
        self._calls = 0
        self._threads = [threading.Thread(target=act) for act in (self._call, self._send)]
        for thread in self._threads:
            thread.start()

    def goes_on(self) -> None:
        """Wait until each has done something more."""
        calls, ended = self._calls, len(self._ended)
        wait_until(lambda: self._calls > calls and len(self._ended) > ended, 20, what="load")

    def stop(self) -> tuple[list[object], list[str]]:
        """End it; return the calls that failed, and how the tasks ended."""
        self._over.set()
        for thread in self._threads:
            thread.join(20)
        return self._failed, self._ended

    def _call(self) -> None:
        own = Caller(self._hub.address, self._hub.key)
        while not self._over.is_set():
            newest = own.consumer()["accessToken"]
            answers = [own.ask("GET", "/api/v1/tasks", bearer=token) for token in (newest, self._first)]
            self._failed.extend(each for each in answers if each.status != 200)
            self._calls += 1
        own.pool.clear()

    def _send(self) -> None:
        while not self._over.is_set():
            try:
                self._ended.append(self._client.send_message("echo", "x").wait_for_terminal(20).state)
            except Exception as error:
                self._failed.append(error)
                raise


def test_only_the_owner_of_the_hub_changes_its_key(tmp_path: Path) -> None:
    """Another owner's key, a token and a stranger are refused, and nothing is changed. [G10] [K2]"""
    with running_hub(tmp_path) as hub:
        bearers = [new_key(hub)["key"], hub.consumer()["accessToken"], None]
        refused = [hub.ask("POST", "/api/v1/auth/signing-keys", {}, bearer=bearer).status for bearer in bearers]

        assert refused == [403, 401, 401]
        assert len(read_keys(StateFolder(tmp_path))) == 1


def rotated(hub: Caller) -> str:
    """Have a new key sign; return its id."""
    answered = hub.ask("POST", "/api/v1/auth/signing-keys", {}, bearer=hub.key)
    assert answered.status == 201
    signs, *before = answered.json["keys"]
    assert signs["until"] is None
    assert all(key["until"] for key in before)
    return str(signs["id"])


def cdm_of(hub: Caller) -> str:
    """Return where the hub's document is."""
    return f"{hub.address.url}/api/v1/cdm"
