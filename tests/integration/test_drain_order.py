"""An instance that was asked to drain is to drain, whatever happens to the hub meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support_hub import running_hub

if TYPE_CHECKING:
    from pathlib import Path


def test_a_hub_that_starts_again_still_asks(tmp_path: Path) -> None:
    """The order is in the ledger: the next hub says it with the next beat."""
    with running_hub(tmp_path) as hub:
        instance = hub.connect()["accessToken"]
        hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
        path = "/api/v1/registry/instances/echo-1/drain"
        assert hub.ask("POST", path, bearer=hub.consumer()["accessToken"]).status == 202
    with running_hub(tmp_path) as hub:
        answer = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)

    assert (answer.status, answer.json["drain"]) == (200, True)
