"""History: the newest rows of a window, counts and deletion, over what was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from blocks_worker.hub.network.access import DELETE, READ
from blocks_worker.hub.network.wire import Refused, Reply, dumps, names, no_history, ok, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blocks_worker.hub.network.call import Call
    from blocks_worker.hub.network.channels import Message

#: Rows of an answer for one channel, and for each of several.
ROWS_ONE = 100
ROWS_MANY = 25
CHANNELS = 500
#: Bytes of an answer; a client that asks for more keeps the loop from everybody else.
ANSWER_LIMIT = 16 * 1024 * 1024
_END_OF_TIME = 1 << 63


class Window(NamedTuple):
    """Be the timetokens `above < tt <= until`."""

    above: int = -1
    until: int = _END_OF_TIME


def fetch(call: Call, channels: str) -> Reply:
    """Return the newest rows of one or more channels."""
    listed = _listed(call, channels, READ)
    most = ROWS_ONE if len(listed) == 1 else ROWS_MANY
    count = min(_number(call, "max") or most, most)
    within = window(_number(call, "start"), _number(call, "end"))
    pages = []
    size = 0
    for name in listed:
        found = rows(call, name, within, count)
        size += sum(len(each.payload) for each in found)
        if size > ANSWER_LIMIT:
            raise Refused(no_history(400, "The answer would be too large: ask for fewer channels"))
        if found:
            body = b",".join([_row(call, each) for each in found])
            pages.append(b'"%b":[%b]' % (quote(name, safe="").encode(), body))
    return Reply(200, b'{"status":200,"error":false,"error_message":"","channels":{%b}}' % b",".join(pages))


def fetch_v2(call: Call, channel: str) -> Reply:
    """Return the rows of one channel in the older form; `reverse` counts from the oldest."""
    name = _listed(call, channel, READ)[0]
    count = min(_number(call, "count") or ROWS_ONE, ROWS_ONE)
    start, end = _number(call, "start"), _number(call, "end")
    if call.asks("reverse"):
        within = Window(-1 if start is None else start, _END_OF_TIME if end is None else end)
        found = rows(call, name, within, None)[:count]
    else:
        found = rows(call, name, window(start, end), count)
    items = b",".join([_item(call, each) for each in found])
    first, last = (found[0].tt, found[-1].tt) if found else (0, 0)
    return Reply(200, b"[[%b],%d,%d]" % (items, first, last))


def counts(call: Call, channels: str) -> Reply:
    """Return how many rows each channel has above a timetoken."""
    listed = _listed(call, channels, READ)
    cursors = _cursors(call, len(listed))
    found = {
        quote(name, safe=""): len(rows(call, name, Window(cursor), None))
        for name, cursor in zip(listed, cursors, strict=True)
    }
    return ok({"status": 200, "error": False, "error_message": "", "channels": found})


def delete(call: Call, channel: str) -> Reply:
    """Delete the rows with `start < tt <= end`."""
    name = _listed(call, channel, DELETE)[0]
    start, end = _number(call, "start"), _number(call, "end")
    call.realm.history.remove(name, -1 if start is None else start, _END_OF_TIME if end is None else end)
    return ok({"status": 200, "error": False, "error_message": ""})


def window(start: int | None, end: int | None) -> Window:
    """Return what two bounds mean: older than `start`, from `end` on; the other way round, above and up to."""
    if start is not None and end is not None and start < end:
        return Window(start, end)
    return Window(-1 if end is None else end - 1, _END_OF_TIME if start is None else start - 1)


def rows(call: Call, channel: str, within: Window, count: int | None) -> list[Message]:
    """Return the newest rows of a window, at most `count`, oldest first."""
    now = call.realm.shared.clock.monotonic()
    found: list[Message] = []
    hides = call.realm.shared.hides
    for message in call.realm.history.newest_first(channel, now - call.realm.shared.settings.history_age):
        if message.tt <= within.above or len(found) == count:
            break
        if message.tt > within.until or (message.ttl is not None and now >= message.at + message.ttl):
            continue
        if hides is None or not hides(message):
            found.append(message)
    found.reverse()
    return found


def _listed(call: Call, channels: str, bit: int) -> list[str]:
    listed = names(channels)
    if not 1 <= len(listed) <= CHANNELS:
        raise Refused(no_history(400, "Invalid Arguments: channels"))
    call.demand(listed, bit)
    return listed


def _number(call: Call, name: str) -> int | None:
    try:
        return whole(call.query.get(name))
    except ValueError:
        raise Refused(no_history(400, f"Invalid Arguments: {name}")) from None


def _cursors(call: Call, channels: int) -> list[int]:
    """Return the timetoken to count from for each channel: one for all, or one for each."""
    texts = (call.query.get("channelsTimetoken") or call.query.get("timetoken") or "").split(",")
    try:
        found = [int(whole(text) or 0) for text in texts]
    except ValueError:
        found = []
    if len(found) == 1:
        found *= channels
    if len(found) != channels:
        raise Refused(no_history(400, "Invalid Arguments: channelsTimetoken"))
    return found


#: What a row carries when it was asked for, in the order of the wire.
_EXTRAS: Iterable[tuple[str, bytes, Callable[[Message], bytes]]] = (
    ("include_uuid", b"uuid", lambda message: dumps(message.publisher)),
    ("include_message_type", b"message_type", lambda _message: b"null"),
    ("include_meta", b"meta", lambda message: message.meta or b'""'),
    ("include_custom_message_type", b"custom_message_type", lambda message: dumps(message.custom_type or None)),
)


def _row(call: Call, message: Message) -> bytes:
    extras = [b',"%b":%b' % (key, value(message)) for asked, key, value in _EXTRAS if call.asks(asked)]
    return b'{"message":%b,"timetoken":"%d"%b}' % (message.text(), message.tt, b"".join(extras))


def _item(call: Call, message: Message) -> bytes:
    extras = [b'"message":%b' % message.text()]
    if call.asks("include_token"):
        extras.append(b'"timetoken":%d' % message.tt)
    if call.asks("include_meta"):
        extras.append(b'"meta":%b' % (message.meta or b'""'))
    return b"{%b}" % b",".join(extras) if len(extras) > 1 else message.text()


def refused(message: str) -> Reply:
    """Return the refusal of a history call that its caller has no right to."""
    return Reply(403, dumps({"status": 403, "error": True, "error_message": message}))
