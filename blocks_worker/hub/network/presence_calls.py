"""The calls of presence: heartbeat, leave, here now, where now, state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.hub.network.access import READ
from blocks_worker.hub.network.channels import PRESENCE
from blocks_worker.hub.network.presence import TIMEOUT
from blocks_worker.hub.network.subscribing import arrive, state_of
from blocks_worker.hub.network.wire import Refused, Reply, decoded, names, ok, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.network.call import Call

#: Users of one channel in one answer.
HERE_LIMIT = 1000


def presence(call: Call, path: Sequence[str]) -> Reply | None:
    """Answer a call of presence; None when there is no such call."""
    answer = None
    match path:
        case ["channel", listed, "heartbeat"]:
            answer = _heartbeat(call, listed)
        case ["channel", listed, "leave"]:
            answer = _leave(call, listed)
        case ["channel", listed, "uuid", user_id, "data"]:
            answer = _set_state(call, names(listed), decoded(user_id))
        case ["channel", listed, "uuid", user_id]:
            answer = _get_state(call, names(listed), decoded(user_id))
        case ["channel", listed]:
            answer = _here_now(call, names(listed))
        case ["uuid", user_id]:
            answer = _done(payload={"channels": call.realm.presence.where(decoded(user_id))})
        case []:
            answer = _here_now_everywhere(call)
    return answer


def _heartbeat(call: Call, listed: str) -> Reply:
    arrive(call, _channels(call, listed))
    return _done()


def _leave(call: Call, listed: str) -> Reply:
    call.realm.announce(call.realm.presence.leave(call.user_id, _channels(call, listed)))
    return _done(action="leave")


def _channels(call: Call, listed: str) -> list[str]:
    """Return the channels on which the caller says to be; names of presence events do not count."""
    if not call.user_id:
        raise Refused(sentence(400, "Missing uuid", service="Presence"))
    return [name for name in names(listed) if not name.endswith(PRESENCE)]


def _here_now(call: Call, listed: list[str]) -> Reply:
    call.demand(listed, READ)
    if len(listed) == 1:
        return _done(**_occupants(call, listed[0]))
    return _many(call, listed)


def _here_now_everywhere(call: Call) -> Reply:
    if call.access is not None:  # no token is good for all channels
        raise Refused(sentence(403, "Forbidden", payload={"channels": []}))
    return _many(call, call.realm.presence.channels())


def _many(call: Call, listed: list[str]) -> Reply:
    found = {name: _occupants(call, name) for name in listed}
    total = sum(each["occupancy"] for each in found.values())
    return _done(payload={"channels": found, "total_channels": len(found), "total_occupancy": total})


def _occupants(call: Call, channel: str) -> dict[str, Any]:
    here = call.realm.presence.here(channel)
    if call.asks("disable_uuids"):
        return {"occupancy": len(here)}
    first = call.number("offset") or 0
    page = here[first : first + _limit(call)]
    if not call.asks("state"):
        return {"uuids": [user_id for user_id, _ in page], "occupancy": len(here)}
    users = [{"uuid": user_id} if state is None else {"uuid": user_id, "state": state} for user_id, state in page]
    return {"uuids": users, "occupancy": len(here)}


def _limit(call: Call) -> int:
    """Return how many users to list; -1 stands for no limit given."""
    if call.query.get("limit") == "-1":
        return HERE_LIMIT
    limit = call.number("limit")
    return HERE_LIMIT if limit is None else min(limit, HERE_LIMIT)


def _set_state(call: Call, listed: list[str], user_id: str) -> Reply:
    call.demand(listed, READ)
    state = state_of(call.query.get("state", ""))
    until = call.realm.shared.clock.monotonic() + TIMEOUT
    call.realm.announce(call.realm.presence.set_state(user_id, listed, state, until=until))
    return _done(payload=state)


def _get_state(call: Call, listed: list[str], user_id: str) -> Reply:
    call.demand(listed, READ)
    states = {name: call.realm.presence.state(user_id, name) for name in listed}
    if len(listed) == 1:
        return _done(payload=states[listed[0]], uuid=user_id, channel=listed[0])
    return _done(payload={"channels": states}, uuid=user_id)


def _done(**more: Any) -> Reply:
    return ok({"status": 200, "message": "OK", **more, "service": "Presence"})
