"""The whole server: start, stop, whom it serves, what every reply carries."""

import asyncio
import http.client
import socket
import threading

import pytest
from localnet import KEYS, Held, Net, NetworkMaker, sdk
from support import wait_until

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.network.network import LocalNetwork


def a_network(secret: bytes | None = None) -> LocalNetwork:
    """Return one that is not started."""
    return LocalNetwork([KEYS], secrets=None if secret is None else lambda: [secret], clock=Clock(), entropy=Entropy())


def test_sdk_time(net: Net) -> None:
    """Time is a whole number of 17 digits that rises. [2.14]"""
    with sdk(net, subscribe=False) as client:
        first, second = (int(client.time().sync().result) for _ in range(2))

    assert len(str(first)) == 17
    assert second > first
    assert isinstance(net.ask("/time/0").json[0], int)


def test_serves_both_loopback_addresses(net: Net) -> None:
    """The same port answers on IPv4 and, where there is one, on IPv6."""
    addresses = {server.sockets[0].getsockname()[:2] for server in net.network._servers}
    for host, port in addresses:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request("GET", "/time/0")
        assert connection.getresponse().status == 200
        connection.close()

    assert ("127.0.0.1", net.port) in addresses


def test_port_in_use_is_an_error(net: Net) -> None:
    """A port that somebody has is an OSError, and nothing stays open."""
    other = a_network()

    with pytest.raises(OSError, match=r"(?i)in use"):
        net.loop.run(other.start(port=net.port))


def test_port_taken_on_one_address_only() -> None:
    """A fixed port whose IPv6 half is taken is refused whole, so nobody else answers for `localhost`."""
    try:
        rival = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")

    with rival, pytest.raises(OSError, match=r"(?i)in use"):
        asyncio.run(a_network().start(port=rival.getsockname()[1]))


def test_other_hosts_only_with_access_control() -> None:
    """An address that others could reach needs a secret."""
    with pytest.raises(ConfigurationError, match="secret"):
        asyncio.run(a_network().start("0.0.0.0"))  # noqa: S104 - it is refused

    async def guarded() -> int:
        network = a_network(b"secret")
        port = await network.start("0.0.0.0")  # noqa: S104 - allowed with a secret, and gone at once
        await network.stop()
        return port

    assert asyncio.run(guarded()) > 0


def test_stop_ends_held_polls_at_once(start_network: NetworkMaker) -> None:
    """Stopping cuts connections, forgets polls, and the port is free again."""
    net = start_network(hold=60.0)
    cursor = net.cursor()
    ended = threading.Event()

    def poll() -> None:
        try:
            net.poll("room", cursor)
        except (OSError, http.client.HTTPException):
            ended.set()

    thread = threading.Thread(target=poll)
    thread.start()
    wait_until(lambda: net.waiting() == 1, what="the poll is held")
    net.loop.run(net.network.stop())
    thread.join(30)

    assert ended.is_set()
    assert net.waiting() == 0
    assert net.loop.run(net.network.start(port=net.port)) == net.port


def test_restart_has_another_region_and_no_messages(net: Net) -> None:
    """A new start says so by its region, forgets all messages, and its timetokens go on rising."""
    before = net.poll("room")
    tt = net.publish("room", 1)
    net.loop.run(net.network.stop())
    net.loop.run(net.network.start(port=net.port))
    net.settings(hold=0.05)

    after = net.poll("room", before["t"]["t"])

    assert after["m"] == []
    assert after["t"]["r"] != before["t"]["r"]
    assert net.cursor() > tt


def test_publish_from_inside(net: Net) -> None:
    """The hub publishes without HTTP; history has it unless told otherwise."""
    cursor = net.cursor()
    held = net.held("room", cursor)
    tt = net.loop.call(net.network.publish, "sub-test", "room", b'{"a": 1}')
    net.loop.call(net.network.publish, "sub-test", "room", b"2", store=False, publisher="me")

    (message,) = held.result().json["m"]

    assert (message["d"], message["i"], int(message["p"]["t"])) == ({"a": 1}, "hub", tt)
    rows = net.get("/v3/history/sub-key/{sub}/channel/room").json["channels"]["room"]
    assert [row["message"] for row in rows] == [{"a": 1}]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:80", 200),
        ("hub.example", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
    ],
)
def test_host_names(start_network: NetworkMaker, host: str, status: int) -> None:
    """Only loopback names and configured ones are served: a foreign page cannot point its name at us."""
    net = start_network(hosts=("hub.example",))

    assert net.raw_ask("/time/0", headers={"Host": host}).status == status


@pytest.mark.parametrize(
    ("target", "status"),
    [("/time/0", 200), ("/nothing", 404), ("/", 404), ("/v2/subscribe/x/y/0", 400), ("/v9/x", 404)],
)
def test_every_reply_has_type_and_origin(net: Net, target: str, status: int) -> None:
    """Good or bad, each reply has a content type and may be read by any page. [2.14]"""
    answered = net.ask(target)

    assert answered.status == status
    assert answered.headers["Content-Type"] == 'text/javascript; charset="UTF-8"'
    assert answered.headers["Access-Control-Allow-Origin"] == "*"
    assert answered.headers["Access-Control-Expose-Headers"] == "*"
    assert answered.headers["Cache-Control"] == "no-cache"


def test_preflight(net: Net) -> None:
    """A browser that asks first is told what it may do."""
    answered = net.ask("/publish/pub-test/sub-test/0/a/0", method="OPTIONS")

    assert (answered.status, answered.body) == (204, b"")
    assert "DELETE" in answered.headers["Access-Control-Allow-Methods"]
    assert answered.headers["Access-Control-Allow-Private-Network"] == "true"
    assert answered.headers["Access-Control-Max-Age"] == "86400"
    assert answered.headers["Content-Type"]


def test_unknown_paths_and_methods(net: Net) -> None:
    """What is not offered is 404 in the plain shape, whatever the method."""
    for method, path in (("POST", "/time/0"), ("DELETE", "/v2/history/sub-key/sub-test/channel/a"), ("PATCH", "/x")):
        answered = net.ask(path, method=method)
        assert (answered.status, answered.json["error"]) == (404, True)


def test_settings_change_at_once(net: Net) -> None:
    """A shorter hold counts for the next poll."""
    net.settings(hold=0.05)
    cursor = net.cursor()

    assert Held(lambda: net.ask(f"/v2/subscribe/sub-test/room/0?tt={cursor}")).result().json["m"] == []
