import pytest
from localnet import networks
from pubnub_pair import Inbox, Tokens, transports

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import ConfigurationError
from blocks_worker.transports.pubnub.transport import PubNubSettings


@pytest.mark.parametrize(
    "changed", [{"origin": "http://example.com"}, {"origin": "ftp://x"}, {"user_id": ""}, {"user_id": "a b"}]
)
def test_settings_that_can_not_work_are_refused(changed: dict[str, str]) -> None:
    """Cleartext leaves this machine never; a user id must be plain in an address."""
    good = {"origin": "https://ps.example", "user_id": "u"}
    with pytest.raises(ConfigurationError):
        PubNubSettings(publish_key="p", subscribe_key="s", **{**good, **changed})


def test_a_bare_host_means_tls() -> None:
    """Only a scheme makes it cleartext."""
    settings = PubNubSettings("ps.example:99", "p", "s", "u")

    assert settings.address == ("https", "ps.example:99")


def test_what_is_published_is_received() -> None:
    """One transport says it, another hears it; both count."""
    with networks() as start, transports() as make:
        port = start().port
        reader, sender = make(port, "reader"), make(port, "sender", grants=Tokens())
        inbox = Inbox(reader.subscribe(["a"]))
        sender.publish("a", [{"i": 1}, {"i": 2}], Deadline(5))

        assert inbox.until(2) == [1, 2]
        assert (sender.counters["published"], reader.counters["messages"]) == (2, 2)
