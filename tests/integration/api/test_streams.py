"""The door of streams over bare HTTP: whose a stream is, which side is whose, and when a grant ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from support_hub import Caller

GRANTS = "/api/v1/streams/grants"
KEYS = "/api/v1/auth/keys"
CARD = {
    "streams": {
        "news": {"direction": "outbound", "format": "bytes", "affinity": "shared"},
        "own": {"direction": "outbound", "format": "bytes"},
    }
}


def grant(hub: Caller, bearer: str, task: str, stream: str, *, hand_out: bool = False) -> dict[str, Any]:
    """Ask for one stream; return the answer."""
    names = [{"taskId": task, "streamId": stream, "handOut": hand_out}]
    answered = hub.ask("POST", GRANTS, {"streams": names}, bearer=bearer)
    assert answered.status == 200, answered
    return dict(answered.json)


def running(hub: Caller, agent: str, token: str, **fields: Any) -> tuple[str, str]:
    """Return the token of an instance and the task that it runs."""
    instance = hub.connect(agent, **fields)["accessToken"]
    task = hub.submit(token, agent)
    offers = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance).json["offers"]
    turn = {"taskId": task, "epoch": next(offer["epoch"] for offer in offers if offer["taskId"] == task)}
    assert hub.ask("POST", "/api/v1/claims", turn, bearer=instance).status == 200
    return instance, task


def may(hub: Caller, channel: str, token: str, user: str, *, write: bool) -> int:
    """Publish on a channel, or look for new messages on it; return the network's status."""
    keys = hub.ask("GET", "/api/v1/cdm").json["playground"]
    if write:
        path = f"/publish/{keys['publishKey']}/{keys['subscribeKey']}/0/{quote(channel)}/0/1"
    else:
        path = f"/v2/subscribe/{keys['subscribeKey']}/{quote(channel)}/0"
    query = {"uuid": user, "auth": token, "tt": "0"}
    return int(hub.pool.request("GET", hub.address.origin + path, fields=query, timeout=20.0).status)


def test_each_side_has_its_own_channel_to_write(hub: Caller, token: str) -> None:
    """The instance speaks down and hears up, the consumer the other way round, and no other way. [R-36]"""
    instance, task = running(hub, "sides", token)
    channel = f"stream.sides.{task}-1"
    of_agent, of_consumer = grant(hub, instance, task, f"{task}-1"), grant(hub, token, task, f"{task}-1")

    assert of_agent["streams"][0]["channel"] == of_consumer["streams"][0]["channel"] == channel
    for said, down in ((of_agent, True), (of_consumer, False)):
        rights = {
            (name, write): may(hub, name, said["token"], said["userId"], write=write) == 200
            for name in (channel, f"{channel}.up")
            for write in (True, False)
        }
        assert rights == {
            (channel, True): down,
            (channel, False): not down,
            (f"{channel}.up", True): not down,
            (f"{channel}.up", False): down,
        }
    assert may(hub, channel, of_consumer["token"], "somebody-else", write=False) == 403


def test_only_who_has_the_task_is_granted(hub: Caller, token: str, bob: str) -> None:
    """Another owner, another instance, and a stream that is nobody's are refused, each by itself."""
    instance, task = running(hub, "whose", token, card=CARD)
    stranger = hub.connect("stranger")["accessToken"]

    for bearer in (bob, stranger):
        assert grant(hub, bearer, task, f"{task}-1")["streams"][0]["refused"] == "NotFound"
    for name in (f"{task}-x", "own", "other", "no dots.", f"{'0' * 36}-1"):
        assert grant(hub, instance, task, name)["streams"][0]["refused"] == "NotFound", name
    assert grant(hub, instance, task, "news")["streams"][0]["channel"] == "stream.whose.news"


def test_one_refusal_keeps_nobody_else_from_his_grant(hub: Caller, token: str) -> None:
    """Of several, those that are refused say so, and the grant covers the others."""
    instance, task = running(hub, "several", token)
    names = [{"taskId": task, "streamId": name} for name in (f"{task}-1", "none", f"{task}-2")]
    said = hub.ask("POST", GRANTS, {"streams": names}, bearer=instance).json

    assert [each.get("refused") for each in said["streams"]] == [None, "NotFound", None]
    assert may(hub, f"stream.several.{task}-2", said["token"], said["userId"], write=True) == 200


def test_tokens_are_handed_out_by_side(hub: Caller, token: str) -> None:
    """An instance gets one for each side of the stream; a consumer none for the agent's."""
    instance, task = running(hub, "handing", token)
    channel = f"stream.handing.{task}-1"
    (of_agent,) = grant(hub, instance, task, f"{task}-1", hand_out=True)["streams"]
    (of_consumer,) = grant(hub, token, task, f"{task}-1", hand_out=True)["streams"]

    assert of_consumer.get("agentToken") is None
    assert may(hub, channel, of_agent["agentToken"], "whoever", write=True) == 200
    assert may(hub, channel, of_agent["consumerToken"], "whoever", write=True) == 403
    assert may(hub, channel, of_agent["consumerToken"], "whoever", write=False) == 200


@pytest.mark.parametrize("side", ["agent", "consumer"])
def test_a_grant_ends_with_its_key(hub: Caller, side: str) -> None:
    """Revoking the key ends the grant, and what was handed out under it, at once, whatever time is left. [R-43]"""
    made = hub.ask("POST", KEYS, {"name": side}, bearer=hub.key).json
    agent, consumer = f"revoked_{side}", str(hub.consumer(made["key"] if side == "consumer" else None)["accessToken"])
    instance, task = running(hub, agent, consumer, **({"key": made["key"]} if side == "agent" else {}))
    said = grant(hub, instance if side == "agent" else consumer, task, f"{task}-1", hand_out=True)
    name, writes = f"stream.{agent}.{task}-1", side == "agent"
    held = said["streams"][0]["agentToken" if writes else "consumerToken"]
    before = [may(hub, name, each, said["userId"], write=writes) for each in (said["token"], held)]
    assert hub.ask("DELETE", f"{KEYS}/{made['id']}", bearer=hub.key).status == 204

    assert before == [200, 200]
    assert [may(hub, name, each, said["userId"], write=writes) for each in (said["token"], held)] == [403, 403]


def test_a_request_has_to_name_streams(hub: Caller, token: str) -> None:
    """None at all, and more than one grant can hold, are refused."""
    for count in (0, 129):
        names = [{"taskId": "t", "streamId": f"t-{number}"} for number in range(count)]
        assert hub.ask("POST", GRANTS, {"streams": names}, bearer=token).status == 400
