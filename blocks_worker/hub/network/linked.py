"""What somebody on a link may do on the local network: publish and follow, with the same grants as over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.errors import InvalidMessageError, MessageTooLargeError
from blocks_worker.hub.network.access import READ, WRITE, Denied
from blocks_worker.hub.network.channels import Message
from blocks_worker.hub.network.publishing import CHANNEL_LIMIT, MESSAGE_LIMIT
from blocks_worker.protocol.chunks import check_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.network.access import AccessManager
    from blocks_worker.hub.network.following import Follower, Reader
    from blocks_worker.hub.network.realm import Realm


class Seat:
    """Be a user of one keyset with a grant; `Denied` is raised where it does not do."""

    def __init__(self, realm: Realm | None, access: AccessManager | None, user: str, grant: str | None) -> None:
        self._realm = realm
        self._access = access
        self._user = user
        self._grant = grant

    @property
    def key(self) -> str:
        """Which keyset it is on."""
        return self._there.keyset.subscribe_key

    def now(self) -> int:
        """Return the position before whatever is published from now on."""
        return self._there.shared.timeline.draw()

    def publish(self, channel: str, payload: bytes) -> int:
        """Publish JSON that was found sound; return its position."""
        if len(payload) > MESSAGE_LIMIT:
            raise MessageTooLargeError(len(payload), MESSAGE_LIMIT)
        return self._put(channel, payload, is_raw=False)

    def pass_on(self, channel: str, bundle: memoryview) -> int:
        """Publish bytes of a stream as they are, once they are found whole; return their position."""
        check_bundle(bundle)
        return self._put(channel, bundle, is_raw=True)

    def _put(self, channel: str, payload: bytes | memoryview, *, is_raw: bool) -> int:
        if not channel or "," in channel or len(channel) > CHANNEL_LIMIT:
            raise InvalidMessageError("channel", "a channel's name has no comma, and at most 512 characters")
        self._demand([channel], WRITE)
        shared, at = self._there.shared, self._there.shared.clock.monotonic()
        message = Message(shared.timeline.draw(), channel, payload, at, publisher=self._user, is_raw=is_raw)
        self._there.publish(message, store=True)
        return message.tt

    def not_readable(self, channels: Sequence[str]) -> tuple[list[str], str]:
        """Return which of these channels it may not read (any more), and why."""
        try:
            _ = self._there
            self._demand(channels, READ)
        except Denied as denied:
            return list(channels if denied.channels is None else denied.channels), denied.message
        return [], ""

    def follower(self, reader: Reader) -> Follower:
        """Return one who follows nothing yet."""
        return self._there.follower(reader)

    def _demand(self, channels: Sequence[str], bit: int) -> None:
        if self._access is not None:
            self._access.demand(self._grant, self._user, channels, bit)

    @property
    def _there(self) -> Realm:
        if self._realm is None:
            raise Denied("Invalid Subscribe Key")
        return self._realm
