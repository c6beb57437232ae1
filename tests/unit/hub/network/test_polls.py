"""Which polls a message is for."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from blocks_worker.hub.network.polls import Poll, Polls, wildcard_prefix, wildcards

if TYPE_CHECKING:
    from blocks_worker.hub.network.wire import Reply


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("plain", []),
        ("a.b", ["a.*"]),
        ("a.b.c", ["a.*", "a.b.*"]),
        ("a.b.c.d", ["a.*", "a.b.*"]),
        ("a.b-pnpres", ["a.*-pnpres"]),
        ("a.*-pnpres", ["a.*-pnpres"]),
    ],
)
def test_wildcards_of_a_channel(channel: str, expected: list[str]) -> None:
    """A prefix has at most two dots, and presence events have wildcards of their own."""
    assert list(wildcards(channel)) == expected


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("a.*", "a."),
        ("a.b.*", "a.b."),
        ("a.*-pnpres", "a."),
        ("a.b.c.*", None),
        ("a*", None),
        ("*", None),
        ("a.*.b", None),
        ("plain", None),
    ],
)
def test_what_is_a_wildcard(name: str, prefix: str | None) -> None:
    """Only a star as last segment after one or two dots makes one."""
    assert wildcard_prefix(name) == prefix


def test_polls_are_found_by_name_and_wildcard() -> None:
    """A poll is found for each name it listens to until it is removed, which may be said twice."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        poll = Poll(["a.b", "a.*", "c"], 1, answer, loop.call_later(60, print), lambda: None)
        polls = Polls()
        polls.add(poll)

        assert list(polls.listening("a.b")) == [poll, poll]
        assert list(polls.listening("a.x")) == [poll]
        assert list(polls.listening("d")) == []

        polls.remove(poll)
        polls.remove(poll)
        assert list(polls.listening("a.b")) == []
        assert polls.waiting() == set()
        poll.timer.cancel()

    asyncio.run(play())
