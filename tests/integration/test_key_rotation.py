"""Keys that are changed while everything goes on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from support import wait_until
from support_hub import Caller, running_hub

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
