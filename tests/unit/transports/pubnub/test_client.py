from localnet import KEYS, networks
from pubnub_pair import Tokens

from blocks_worker.transports.pubnub.client import NetworkClient, PubNubSettings


def test_a_page_holds_the_rows_after_one_position_up_to_and_with_another() -> None:
    """The lower bound is left out, even on the wire: its row may be the one that cannot be read."""
    with networks() as start:
        net = start()
        first, second, third = (net.publish("a", {"i": number}) for number in range(3))
        settings = PubNubSettings(f"http://127.0.0.1:{net.port}", KEYS.publish_key, KEYS.subscribe_key, "u")
        client = NetworkClient(settings, Tokens(), polls=False)

        assert [row.position for row in client.page("a", first, third)] == [second, third]
        assert [row.position for row in client.page("a", first, second)] == [second]
        assert [row.position for row in client.page("a", second - 1, second)] == [second]
        assert client.page("a", third, third + 1) == []
        assert (client.count("a", first), client.count("none", 1)) == (2, 0)
        client.stop()
