"""All that one subscribe key holds: kept messages, stored messages, waiting polls, who is present."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blocks_worker.hub.network.channels import PRESENCE, Message, Shelf, Timeline
from blocks_worker.hub.network.following import Follower
from blocks_worker.hub.network.polls import Poll, Polls, wildcard_prefix
from blocks_worker.hub.network.presence import Happening, Presence
from blocks_worker.hub.network.wire import Reply, dumps
from blocks_worker.hub.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocks_worker.concurrency import Clock
    from blocks_worker.hub.network.following import Reader
    from blocks_worker.hub.network.settings import Keyset, NetworkSettings


@dataclass(slots=True)
class Shared:
    """Be what all realms of one network have in common; `settings` may change at any time."""

    settings: NetworkSettings
    clock: Clock
    timeline: Timeline
    region: int
    #: At whose ends followers are told.
    rounds: Rounds = field(default_factory=Rounds)
    #: Stands before `Realm.put`, and which rows history does not show: both only for tests of what goes wrong.
    delivery: Callable[[Realm, Message, bool], None] | None = None
    hides: Callable[[Message], bool] | None = None


class Realm:
    """Keep the messages of one keyset, and wake the polls that they are for. Loop thread only."""

    def __init__(self, keyset: Keyset, shared: Shared) -> None:
        self.keyset = keyset
        self.shared = shared
        self.retention = Shelf()
        self.history = Shelf()
        self.presence = Presence()
        self.polls = Polls()
        self._woken: dict[Poll, None] = {}
        #: Who follows a channel, by its name.
        self.followers: dict[str, dict[Follower, None]] = {}

    def publish(self, message: Message, *, store: bool, deliver: bool = True) -> None:
        """Keep a message and wake whom it is for; the timetoken has to be the newest of all."""
        if self.shared.delivery is not None and deliver:
            self.shared.delivery(self, message, store)
        else:
            self.put(message, store=store, deliver=deliver)

    def put(self, message: Message, *, store: bool, deliver: bool) -> None:
        """Do what `publish` says, whatever faults are played."""
        if deliver:
            self.retention.put(message, self.shared.settings.retention)
            if self.polls.by_name:
                self._wake(message.channel)
        if store and not message.channel.endswith(PRESENCE):
            self.history.put(message, self.shared.settings.history)
            for follower in self.followers.get(message.channel, ()):
                follower.wake(message.channel)

    def listen(
        self, names: list[str], cursor: int, refused: Callable[[], Reply | None]
    ) -> Reply | asyncio.Future[Reply]:
        """Answer with what came since the cursor, or hold the answer until something does, or until it is refused."""
        found = self._since(names, cursor)
        if found:
            return self._delivery(found)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        timer = loop.call_later(self.shared.settings.hold, self._give_up, answer, cursor)
        poll = Poll(names, cursor, answer, timer, refused)
        self.polls.add(poll)
        answer.add_done_callback(lambda _answer: self._forget(poll))
        return answer

    def follower(self, reader: Reader) -> Follower:
        """Return one who follows nothing yet; what is published without being stored its reader is not told."""
        return Follower(self.history, reader, self.followers, self.shared.rounds.at_end)

    def is_followed(self, channel: str) -> bool:
        """Tell whether a follower is told what is published on this channel."""
        return channel in self.followers

    def greeting(self) -> Reply:
        """Return the answer to a first poll: from here on nothing is missed."""
        return self._empty(self.shared.timeline.draw())

    def announce(self, happenings: Sequence[Happening]) -> None:
        """Publish presence events a little later: who joins waits for its own join from its handshake on."""
        if happenings:
            delay = self.shared.settings.presence_delay
            asyncio.get_running_loop().call_later(delay, self._publish_presence, happenings)

    def expire(self) -> None:
        """Forget what is too old, who did not renew its presence, and polls whose right to wait was taken back."""
        now = self.shared.clock.monotonic()
        self.retention.expire(now, self.shared.settings.retention_age)
        self.history.expire(now, self.shared.settings.history_age)
        self.announce(self.presence.expire(now))
        for poll in self.polls.waiting():
            self._refuse(poll)

    def _publish_presence(self, happenings: Iterable[Happening]) -> None:
        now = self.shared.clock.monotonic()
        stamp = self.shared.clock.wall_ms() // 1000
        for happening in happenings:
            tt = self.shared.timeline.draw()
            payload = dumps(happening.event(stamp))
            self.publish(Message(tt, happening.channel + PRESENCE, payload, now), store=False)

    def _wake(self, channel: str) -> None:
        """Answer waiting polls on the next turn of the loop: what is published in this turn travels together."""
        for poll in self.polls.listening(channel):
            if not self._woken:
                asyncio.get_running_loop().call_soon(self._answer_woken)
            self._woken[poll] = None

    def _answer_woken(self) -> None:
        woken, self._woken = self._woken, {}
        for poll in woken:
            if poll.answer.done() or self._refuse(poll):
                continue
            found = self._since(poll.names, poll.cursor)
            if found:
                poll.answer.set_result(self._delivery(found))

    @staticmethod
    def _refuse(poll: Poll) -> bool:
        """Answer a poll that may wait no more; tell whether it may not."""
        refusal = poll.refused()
        if refusal is not None and not poll.answer.done():
            poll.answer.set_result(refusal)
        return refusal is not None

    def _give_up(self, answer: asyncio.Future[Reply], cursor: int) -> None:
        if not answer.done():
            answer.set_result(self._empty(cursor))

    def _forget(self, poll: Poll) -> None:
        poll.timer.cancel()
        self.polls.remove(poll)

    def _since(self, names: Iterable[str], cursor: int) -> list[tuple[int, Message, str]]:
        """Return the newest messages above the cursor with the wildcard that each matched, oldest first."""
        settings = self.shared.settings
        horizon = self.shared.clock.monotonic() - settings.retention_age
        found: list[tuple[int, Message, str]] = []
        for name in names:
            prefix = wildcard_prefix(name)
            if prefix is None:
                found += [(each.tt, each, "") for each in self.retention.after(name, cursor, horizon)]
                continue
            label = prefix + "*"
            for channel in self._matching(prefix, cursor, presence=name.endswith(PRESENCE)):
                found += [(each.tt, each, label) for each in self.retention.after(channel, cursor, horizon)]
        found.sort(key=_by_timetoken)
        return found[-settings.retention_limit :]

    def _matching(self, prefix: str, cursor: int, *, presence: bool) -> list[str]:
        """Return the channels of a wildcard with news; the last written stand first, so the search ends early."""
        found = []
        for channel in self.retention.channels():
            if self.retention.newest(channel) <= cursor:
                break
            if channel.startswith(prefix) and channel.endswith(PRESENCE) == presence:
                found.append(channel)
        return found

    def _delivery(self, found: Sequence[tuple[int, Message, str]]) -> Reply:
        key, region = dumps(self.keyset.subscribe_key), self.shared.region
        entries = b",".join([entry(message, label, key, region) for _, message, label in found])
        return Reply(200, b'{"t":{"t":"%d","r":%d},"m":[%b]}' % (found[-1][0], region, entries))

    def _empty(self, cursor: int) -> Reply:
        return Reply(200, b'{"t":{"t":"%d","r":%d},"m":[]}' % (cursor, self.shared.region))


def entry(message: Message, label: str, key: bytes, region: int) -> bytes:
    """Return one message as a poll's answer carries it; payload and meta go in as they came."""
    parts = [b'{"a":"2","f":0,']
    if message.kind:
        parts.append(b'"e":%d,' % message.kind)
    if message.publisher:
        parts.append(b'"i":%b,' % dumps(message.publisher))
    parts.append(b'"p":{"t":"%d","r":%d},"k":%b,"c":%b,' % (message.tt, region, key, dumps(message.channel)))
    if message.original:
        parts.append(b'"o":{"t":"%d","r":%d},' % (message.original, region))
    if label:
        parts.append(b'"b":%b,' % dumps(label))
    if message.meta:
        parts.append(b'"u":%b,' % message.meta)
    if message.custom_type:
        parts.append(b'"cmt":%b,' % dumps(message.custom_type))
    parts += (b'"d":', message.text(), b"}")
    return b"".join(parts)


def _by_timetoken(found: tuple[int, Message, str]) -> int:
    return found[0]
