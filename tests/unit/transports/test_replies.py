from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.transports.replies import Reply, ReplyRefusedError, read_position, read_reply

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("tmrcpkdbe"), inner, max_size=5),
    max_leaves=12,
)


def item(**changed: Any) -> dict[str, Any]:
    """Return a message as the network delivers it."""
    return {"c": "a", "d": {"x": 1}, "k": "sub", "p": {"t": "200", "r": 1}, "f": 0, **changed}


def read(value: Any, *channels: str) -> tuple[Reply, list[str]]:
    """Read a reply; return it and the reasons of what was set aside."""
    aside: list[str] = []
    names = frozenset(channels or ("a",))
    return read_reply(value, since=100, channels=names, refuse=lambda reason, *_: aside.append(reason)), aside


@given(JUNK)
def test_no_reply_raises_anything_but_a_refusal(value: Any) -> None:
    """Whatever JSON came is read or refused."""
    try:
        read(value)
    except ReplyRefusedError:
        return


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        "s",
        5,
        None,
        {"t": {"t": "100", "r": 1}},
        {"t": {"t": "99", "r": 1}, "m": []},
        {"t": {"t": "x", "r": 1}, "m": []},
        {"t": {"t": "100", "r": 0}, "m": []},
        {"t": {"t": "100", "r": True}, "m": []},
        {"t": {"t": "100"}, "m": []},
    ],
)
def test_a_malformed_reply_is_refused(value: Any) -> None:
    """JSON of another shape, and a position that goes back, are no reply."""
    with pytest.raises(ReplyRefusedError):
        read(value)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (7, "not_an_object"),
        (item(p={"t": "x"}), "fields"),
        (item(p=None), "fields"),
        (item(k=None), "fields"),
        (item(c=None), "fields"),
        (item(c="other"), "foreign_channel"),
        (item(e=4), "not_a_message"),
        (item(c="a-pnpres", b="a"), "not_a_message"),
    ],
)
def test_one_bad_message_does_not_stop_the_rest(bad: Any, reason: str) -> None:
    """It is set aside for a reason, and the position moves on."""
    reply, aside = read({"t": {"t": "300", "r": 9}, "m": [bad, item()]})

    assert aside == [reason]
    assert [event.position for event in reply.events] == [200]
    assert (reply.position, reply.region, reply.total) == (300, 9, 2)


def test_a_wildcard_brings_channels_by_their_own_names() -> None:
    """What matched is believed, the real channel is kept."""
    reply, aside = read({"t": {"t": "300", "r": 1}, "m": [item(c="w.x", b="w.*")]}, "w.*")

    assert not aside
    assert reply.events[0].channel == "w.x"


@pytest.mark.parametrize(
    ("value", "position"),
    [
        ("17", 17),
        (17, 17),
        ("", None),
        ("-1", None),
        (-1, None),
        ("٣", None),
        (True, None),
        ("9" * 20, None),
        (1.0, None),
    ],
)
def test_a_position_is_digits_or_a_whole_number(value: Any, position: int | None) -> None:
    """Everything else is none."""
    assert read_position(value) == position


@pytest.mark.parametrize("listed", [[], {}, None, 5, ["a"]])
def test_a_subscription_of_another_type_is_set_aside(listed: Any) -> None:
    """A message says by which name it was listed; what is no name lists nothing, and the rest goes on. [H6]"""
    reply, aside = read({"t": {"t": "300", "r": 1}, "m": [item(c="b", b=listed), item()]})

    assert (len(reply.events), aside) == (1, ["foreign_channel"])
