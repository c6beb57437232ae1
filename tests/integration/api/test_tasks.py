"""The consumer's doors: submit, look, follow, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support_hub import Caller

TASKS = "/api/v1/tasks"


def test_a_task_is_taken_in_once(hub: Caller, token: str) -> None:
    """201 for a new task, 200 for the same again, 422 for another body under its key."""
    hub.connect("once")
    request = {"agentName": "once", "idempotencyKey": "k1", "requestParts": [{"partId": "text", "text": "a"}]}

    answers = [
        hub.ask("POST", TASKS, request, bearer=token),
        hub.ask("POST", TASKS, request, bearer=token),
        hub.ask("POST", TASKS, {**request, "requestParts": []}, bearer=token),
    ]

    assert [answer.status for answer in answers] == [201, 200, 422]
    assert answers[0].json["taskId"] == answers[1].json["taskId"]


def test_a_bad_item_of_a_batch_fails_alone(hub: Caller, token: str) -> None:
    """Good items are taken in, each bad one has its own status in its place. [J7]"""
    hub.connect("batched")
    good = {"agentName": "batched"}
    items: list[Any] = [good, {"agentName": 7}, 5, {}, good, {"agentName": "nobody_has_this"}, None]

    answered = hub.ask("POST", TASKS, items, bearer=token)

    assert answered.status == 200
    assert [item["status"] for item in answered.json] == [201, 400, 400, 400, 201, 404, 400]


@pytest.mark.parametrize(("count", "status"), [(0, 200), (256, 200), (257, 400)])
def test_a_batch_holds_up_to_256_items(hub: Caller, token: str, count: int, status: int) -> None:
    """An empty batch is answered with an empty list, one too long is refused whole."""
    hub.connect("many")

    answered = hub.ask("POST", TASKS, [{"agentName": "many"}] * count, bearer=token)

    assert answered.status == status
    assert status != 200 or len(answered.json) == count


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not_json"),
        (b"{", 400, "not_json"),
        (b'"text"', 400, "shape"),
        (b"{}", 400, "shape"),
        (b"\xff\xfe{\x00}\x00", 400, "not_utf8"),
        (b'\xef\xbb\xbf{"agentName":"a"}', 400, "not_json"),
        (b'{"agentName":"a","metadata":{"x":NaN}}', 400, "number"),
        (b'{"agentName":"a","deadline":1e400}', 400, "number"),
        (b'{"agentName":"a","deadline":' + b"9" * 5000 + b"}", 400, "number"),
        (b'{"agentName":"a","agentName":"b"}', 400, "duplicate_key"),
        (b'{"agentName":"a","requestParts":' + b"[" * 100 + b"]" * 100 + b"}", 400, "too_deep"),
        (b"[" * 100_000, 400, "too_deep"),
        (b'{"agentName":"a","x":"' + b"y" * 1024 * 1024 + b'"}', 413, "too_large"),
        (b'{"agentName":"a","x":"' + b"y" * 5 * 1024 * 1024 + b'"}', 413, "too_large"),
    ],
)
def test_bad_bodies_are_refused_with_their_reason(
    hub: Caller, token: str, body: bytes, status: int, reason: str
) -> None:
    """[H1] [H2] [H3] [H4] [H5] What is not sound JSON of the right shape is told so and never 500."""
    answered = hub.ask("POST", TASKS, body, bearer=token)

    assert (answered.status, answered.code) == (status, "InvalidInput")
    assert answered.json["details"] == {"reason": reason}


@pytest.mark.parametrize("name", ["owner", "state", "epoch", "attempt", "seq", "purge_at", "tenant", "ownerId"])
def test_fields_that_are_the_hubs_are_not_taken_from_a_body(hub: Caller, token: str, name: str) -> None:
    """[K5] Whose a task is and where it stands comes from the token and the ledger."""
    hub.connect("assigned")

    answered = hub.ask("POST", TASKS, {"agentName": "assigned", name: "bob"}, bearer=token)

    if answered.status == 201:
        row = hub.ask("GET", f"{TASKS}/{answered.json['taskId']}", bearer=token).json
        assert (row["owner"], row["state"]) == ("local", "pending")
    else:
        assert answered.status == 400


def test_tasks_of_others_are_not_there(hub: Caller, token: str, bob: str) -> None:
    """[G7] Every door answers a foreign id with the bytes it has for an unknown one."""
    hub.connect("foreign")
    mine = hub.submit(token, "foreign")
    doors = [("GET", "{}", None), ("GET", "{}/events", None), ("POST", "{}/cancel", {"reason": "x"})]

    for method, path, body in doors:
        foreign, unknown = (
            hub.ask(method, f"{TASKS}/{path.format(task_id)}", body, bearer=bob) for task_id in (mine, "unknown")
        )
        assert (foreign.status, foreign.body) == (404, unknown.body)


def test_events_of_many_tasks_come_in_one_answer(hub: Caller, token: str, bob: str) -> None:
    """Each query has its own status; what is not the caller's is not there."""
    instance = hub.connect("followed")["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
    task_id = hub.submit(token, "followed")
    hub.run(instance, task_id, {"type": "progress", "progress": 0.5})
    queries = [{"taskId": task_id, "after": 0}, {"taskId": "unknown"}, {"after": 1}]

    answered = hub.ask("POST", "/api/v1/events", queries, bearer=token).json
    foreign = hub.ask("POST", "/api/v1/events", queries[:1], bearer=bob).json

    assert [item["status"] for item in answered] == [200, 404, 400]
    assert [event["type"] for event in answered[0]["body"]["events"]] == ["progress", "terminal"]
    assert foreign[0] == answered[1]


def test_events_after_a_place_are_only_the_later_ones(hub: Caller, token: str) -> None:
    """`after` is the cursor of a reader."""
    instance = hub.connect("cursor")["accessToken"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
    task_id = hub.submit(token, "cursor")
    hub.run(instance, task_id, {"type": "progress"}, {"type": "progress"})
    all_of_them = hub.ask("GET", f"{TASKS}/{task_id}/events", bearer=token).json["events"]

    later = hub.ask("GET", f"{TASKS}/{task_id}/events?after={all_of_them[1]['seq']}", bearer=token).json["events"]

    assert later == all_of_them[2:]


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "", "9" * 40, "²"])
def test_a_cursor_is_a_whole_number(hub: Caller, token: str, after: str) -> None:
    """Anything else is refused plainly."""
    assert hub.ask("GET", f"{TASKS}/x/events?after={after}", bearer=token).status == 400


def test_cancel_of_a_waiting_task_ends_it(hub: Caller, token: str) -> None:
    """202 when the cancel was taken in, 200 when the task had ended before."""
    hub.connect("stopped")
    task_id = hub.submit(token, "stopped")

    answers = [hub.ask("POST", f"{TASKS}/{task_id}/cancel", {"reason": "enough"}, bearer=token) for _ in range(2)]

    assert [answer.status for answer in answers] == [202, 200]
    assert answers[1].json == {"taskId": task_id, "state": "canceled", "alreadyEnded": True}


def test_pages_hold_all_tasks_of_the_caller_once(hub: Caller, bob_key: str, bob: str) -> None:
    """Following `next` shows every task once, newest first, and none of others."""
    hub.connect("paged_bob", key=bob_key)
    mine = [hub.submit(bob, "paged_bob") for _ in range(5)]

    seen, cursor = [], ""
    while cursor is not None:
        page = hub.ask("GET", f"{TASKS}?agent=paged_bob&limit=2&cursor={cursor}", bearer=bob).json
        seen += [row["taskId"] for row in page["tasks"]]
        cursor = page["next"]

    assert seen == sorted(mine, reverse=True)


def test_an_answer_to_many_is_bounded(hub: Caller, token: str) -> None:
    """A batch brings 8 MiB of events; what had no room is its row and says that there is more, and comes later."""
    instance = hub.connect("talker")["accessToken"]
    nonce = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance).json["nonce"]
    hub.ask("POST", "/api/v1/heartbeats", {"free": 1, "nonce": nonce}, bearer=instance)
    task_id = hub.submit(token, "talker")
    hub.run(instance, task_id, *[{"type": "progress", "message": "x" * 60_000}] * 8)
    query = {"taskId": task_id, "after": 0}
    silent = {"taskId": task_id, "after": 1_000_000}

    answered = hub.ask("POST", "/api/v1/events", [query] * 40 + [silent], bearer=token)
    again = hub.ask("POST", "/api/v1/events", [query], bearer=token).json[0]["body"]

    assert len(answered.body) < 9 * 1024 * 1024
    bodies = [item["body"] for item in answered.json]
    assert (len(bodies[0]["events"]), bodies[0]["more"]) == (9, False)
    assert (bodies[39]["events"], bodies[39]["more"], bodies[39]["task"]["state"]) == ([], True, "completed")
    assert (bodies[40]["events"], bodies[40]["more"]) == ([], False)
    assert again == bodies[0]


@pytest.mark.parametrize("after", [-1, 2**53 + 1, 2**63, 2**64, 10**30])
def test_a_place_that_no_event_has_spoils_no_batch(hub: Caller, token: str, after: int) -> None:
    """A number beyond the ledger's is refused where it stands; the other questions are answered."""
    hub.connect("placed")
    task_id = hub.submit(token, "placed")
    queries = [{"taskId": task_id, "after": after}, {"taskId": task_id, "after": 2**53}, {"taskId": task_id}]

    answered = hub.ask("POST", "/api/v1/events", queries, bearer=token)

    assert answered.status == 200
    assert [item["status"] for item in answered.json] == [400, 200, 200]


@pytest.mark.parametrize(("length", "status"), [(1024, 202), (1025, 400)])
def test_the_reason_of_a_cancel_is_bounded(hub: Caller, token: str, length: int, status: int) -> None:
    """What would fit no message to the worker is refused."""
    hub.connect("reasoned")
    task_id = hub.submit(token, "reasoned")

    answered = hub.ask("POST", f"{TASKS}/{task_id}/cancel", {"reason": "\x01" * length}, bearer=token)

    assert answered.status == status
