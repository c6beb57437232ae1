"""What stands beside a worker: a plain client of the network."""

from collections.abc import Callable

from acceptance.conftest import World
from pubnub.endpoints.pubsub.subscribe import Subscribe
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub
from support import wait_until

from blocks_worker.client.client import TaskClient

Open = Callable[[], TaskClient]


def test_a_plain_client_of_the_network_sees_the_task(world: World, client: Open) -> None:
    """With a read grant the vendor's own client sees progress, artifact and terminal on the task's channel. [R-55]"""
    world.worker("handlers:hold")
    consumer = client()
    session = consumer.send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")
    place = consumer.api.read_token(session.task_id)
    config = PNConfiguration()
    config.subscribe_key, config.publish_key = place.subscribe_key, place.publish_key
    config.user_id, config.ssl, config.daemon = "a-plain-client", False, True
    config.origin = consumer._core._where.now.origin.partition("://")[2]  # type: ignore[union-attr]
    config.disable_config_locking = False
    plain = PubNub(config)
    plain.set_token(session.read_token)

    position, seen = "1", []
    world.open_gate()
    while "terminal" not in seen:
        reply = Subscribe(plain).channels([session.status_channel]).timetoken(int(position)).sync().result
        position = reply["t"]["t"]
        seen += [event["type"] for message in reply["m"] for event in message["d"]["b"]]
    plain.stop()

    assert seen[0] == "progress"
    assert seen[-2:] == ["artifact", "terminal"]
