import pytest

from blocks_worker.transports.channel_set import CHANNELS, ChannelSet
from blocks_worker.transports.gaps import Window


def test_a_poll_lists_the_wake_channel_too() -> None:
    """It is always there, and never among the owner's."""
    polled = ChannelSet(["b", "a", "w"], "w").snapshot(1, 0, None)

    assert (polled.channels, polled.names) == (("a", "b"), ("a", "b", "w"))


def test_replacing_tells_who_left_and_whether_anything_changed() -> None:
    """The same set again is no change."""
    channels = ChannelSet(["a", "b"], "w")

    assert channels.replace(["b", "c"]) == (frozenset({"a"}), True)
    assert channels.replace(["c", "b"]) == (frozenset(), False)


def test_a_poll_knows_that_channels_were_added_since() -> None:
    """A channel that left is no reason to read again, a new one is."""
    channels = ChannelSet(["a", "b"], "w")
    polled = channels.snapshot(1, 0, None)

    channels.replace(["a"])
    assert not channels.grew(polled)
    channels.replace(["a", "c"])
    assert channels.grew(polled)


def test_a_refused_channel_is_left_out_until_its_time_and_misses_nothing() -> None:
    """It returns with the window that was polled without it."""
    channels = ChannelSet(["a", "b"], "w")
    polled = channels.snapshot(100, 0, "old")

    assert channels.bar(["b"], polled, position=100, until=30.0, token="old") == ["b"]
    assert channels.snapshot(150, 10, "old").names == ("a", "w")
    again = channels.snapshot(200, 31, "old")
    assert again.names == ("a", "b", "w")
    assert again.missed == (Window("b", 100, 200),)
    channels.accepted(again)
    assert channels.snapshot(300, 32, "old").missed == ()


def test_another_token_brings_refused_channels_back_at_once() -> None:
    """Whoever has a new right need not wait."""
    channels = ChannelSet(["a", "b"], "w")
    channels.bar(["b"], channels.snapshot(100, 0, "old"), position=100, until=30.0, token="old")

    assert channels.snapshot(150, 1, "new").names == ("a", "b", "w")


def test_nothing_is_left_out_when_all_is_refused() -> None:
    """A poll of nothing would never tell that the right came back."""
    channels = ChannelSet(["a"], "w")

    assert channels.bar(["a", "w"], channels.snapshot(1, 0, None), position=1, until=9, token=None) == []


@pytest.mark.parametrize("names", [[""], ["."], [".."], ["a-pnpres"], [f"c{i}" for i in range(CHANNELS)], ["ä" * 2000]])
def test_what_can_not_be_polled_is_refused(names: list[str]) -> None:
    """Names the network can not carry, and more of them than one poll takes, are an error of the caller."""
    with pytest.raises(ValueError, match="channel"):
        ChannelSet(names, "w")
