"""The worker's doors: claims, reports, heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support_hub import Caller


def _ready(hub: Caller, agent: str) -> str:
    token = str(hub.connect(agent)["accessToken"])
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=token)
    return token


def test_a_run_from_offer_to_outcome(hub: Caller, token: str) -> None:
    """Offer, claim, report: the row is completed with the events in order."""
    instance = _ready(hub, "whole")
    task_id = hub.submit(token, "whole")

    hub.run(instance, task_id, {"type": "progress", "progress": 0.1}, {"type": "progress", "progress": 0.2})

    row = hub.ask("GET", f"/api/v1/tasks/{task_id}", bearer=token).json
    assert (row["state"], row["lastN"], row["attempt"]) == ("completed", 2, 1)


def test_a_batch_of_claims_answers_each(hub: Caller, token: str) -> None:
    """A sound claim gets its lease; a foreign, a malformed and an unknown one fail alone."""
    instance = _ready(hub, "claims")
    task_id = hub.submit(token, "claims")
    items = [
        {"taskId": task_id, "epoch": 1},
        {"taskId": task_id, "epoch": 9},
        {"taskId": task_id},
        {"taskId": "no", "epoch": 1},
    ]

    answered = hub.ask("POST", "/api/v1/claims", items, bearer=instance).json

    assert [item["status"] for item in answered][:3] == [200, 409, 400]
    assert answered[3]["status"] in {404, 409}


def test_a_report_needs_the_lease(hub: Caller, token: str) -> None:
    """[K3] A guessed lease is refused as any foreign writer is."""
    instance = _ready(hub, "leased")
    task_id = hub.submit(token, "leased")
    hub.ask("POST", "/api/v1/claims", {"taskId": task_id, "epoch": 1}, bearer=instance)
    report = {"taskId": task_id, "epoch": 1, "lease": "0" * 64, "release": True}

    assert hub.ask("POST", "/api/v1/reports", report, bearer=instance).status == 409


def test_another_instance_cannot_speak_for_a_run(hub: Caller, token: str) -> None:
    """[G14] A lease is of no use to another incarnation."""
    holder, other = _ready(hub, "spoken"), _ready(hub, "speaker")
    task_id = hub.submit(token, "spoken")
    lease = hub.ask("POST", "/api/v1/claims", {"taskId": task_id, "epoch": 1}, bearer=holder).json["lease"]
    report = {"taskId": task_id, "epoch": 1, "lease": lease, "release": True}

    assert hub.ask("POST", "/api/v1/reports", report, bearer=other).status == 409


def test_a_stopped_instance_is_told_to_come_anew(hub: Caller) -> None:
    """After the last beat the token is of no use."""
    instance = _ready(hub, "ended")
    hub.ask("POST", "/api/v1/heartbeats", {"stopped": True}, bearer=instance)

    assert hub.ask("POST", "/api/v1/heartbeats", {}, bearer=instance).status == 410


def test_late_reports_need_the_key_of_their_owner(hub: Caller, token: str, bob_key: str) -> None:
    """By the API key alone an owner brings what a dead process left; another owner's key opens nothing. [R11]"""
    instance = _ready(hub, "late")
    task_id = hub.submit(token, "late")
    lease = hub.ask("POST", "/api/v1/claims", {"taskId": task_id, "epoch": 1}, bearer=instance).json["lease"]
    outcome = {"state": "completed", "lastN": 0, "digest": "d" * 64}
    report = {"taskId": task_id, "epoch": 1, "lease": lease, "outcome": outcome}
    items = [{"incarnation": "late-life-1", "report": report}]

    answers = [
        hub.ask("POST", "/api/v1/reports/late", items, bearer=key) for key in ("bk_nobody", bob_key, hub.key, hub.key)
    ]

    assert answers[0].status == 401
    assert [answer.json[0]["status"] for answer in answers[1:]] == [409, 200, 200]
    assert hub.ask("GET", f"/api/v1/tasks/{task_id}", bearer=token).json["state"] == "completed"
