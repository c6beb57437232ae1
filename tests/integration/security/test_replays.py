"""Everything that was said in a session is said again, word for word, by who has heard it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support_hub import Caller, running_hub

if TYPE_CHECKING:
    from pathlib import Path

    from support_hub import Answered


class Recorded(Caller):
    """Note each request with its answer."""

    def __init__(self, of: Caller) -> None:
        super().__init__(of.address, of.key)
        self.said: list[tuple[tuple[Any, ...], dict[str, Any], Answered]] = []

    def ask(self, *args: Any, **options: Any) -> Answered:
        """Send one request."""
        answered = super().ask(*args, **options)
        self.said.append((args, options, answered))
        return answered


def test_a_captured_session_changes_nothing(tmp_path: Path) -> None:
    """Submits, claims, reports, cancels, renewals, all sent again in order: same tasks, same events, no token. [G4]"""
    with running_hub(tmp_path) as hub:
        heard = Recorded(hub)
        connected, consumer = heard.connect(concurrency=4), heard.consumer()
        instance, token = connected["accessToken"], consumer["accessToken"]
        heard.ask("POST", "/api/v1/heartbeats", {"free": 4}, bearer=instance)
        done = heard.submit(token, taskId="01890000-0000-7000-8000-000000000001", requestParts=[{"text": "a"}])
        heard.run(instance, done, {"type": "progress", "progress": 0.5})
        stopped = heard.submit(token, idempotencyKey="once")
        heard.ask("POST", f"/api/v1/tasks/{stopped}/cancel", {"reason": "enough"}, bearer=token)
        again = {"taskId": "01890000-0000-7000-8000-000000000002"}
        heard.ask("POST", f"/api/v1/tasks/{stopped}/retry", again, bearer=token)
        renewal = {"refreshToken": connected["refreshToken"]}
        assert heard.ask("POST", "/api/v1/auth/agent/refresh", renewal, bearer=hub.key).status == 200
        before = _state(hub, token)

        replayed = [hub.ask(*args, **options).status for args, options, _ in heard.said]
        first = [answered.status for _, _, answered in heard.said]

        after = _state(hub, token)
    assert after == before
    assert len(before) == 3
    assert first.count(201) == 3
    assert 201 not in replayed, "nothing is made anew"
    assert replayed[-1] == 401, "a refresh token is good once"
    assert set(replayed) <= {200, 202, 401, 409, 410}


def _state(hub: Caller, token: str) -> dict[str, Any]:
    """Return what the ledger has: rows and events, but for what tells the time of the look."""
    rows = hub.ask("GET", "/api/v1/tasks", bearer=token).json["tasks"]
    return {
        row["taskId"]: (
            row["state"],
            row["attempt"],
            row.get("reason"),
            hub.ask("GET", f"/api/v1/tasks/{row['taskId']}/events", bearer=token).json["events"],
        )
        for row in rows
    }
