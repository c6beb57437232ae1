"""Subscribe: a first poll is answered at once, a later one when there is something or the hold is over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.network.access import READ, REVOKED
from blocks_worker.hub.network.channels import PRESENCE
from blocks_worker.hub.network.presence import TIMEOUT
from blocks_worker.hub.network.wire import Refused, names, sentence

if TYPE_CHECKING:
    from blocks_worker.hub.network.call import Call
    from blocks_worker.hub.network.http import Answer

#: Characters of a presence state.
STATE_LIMIT = 32_768


def subscribe(call: Call, channels: str) -> Answer:
    """Answer a poll of a list of channels."""
    if call.query.get("filter-expr"):
        raise Refused(sentence(400, "Filter expressions are not offered by this network"))
    if call.query.get("channel-group"):
        raise Refused(sentence(400, "Channel groups are not offered by this network"))
    listed = names(channels)
    if not listed:
        raise Refused(sentence(400, "Invalid Arguments: channels"))
    call.demand(listed, READ)
    cursor = call.number("tt") or 0
    if call.user_id:
        arrive(call, listed)
    if not cursor:
        return call.realm.greeting()
    return call.realm.listen(listed, cursor, lambda: sentence(403, REVOKED) if call.is_revoked() else None)


def arrive(call: Call, listed: list[str]) -> None:
    """Make the caller present on what it lists, names of presence events excepted."""
    until = call.realm.shared.clock.monotonic() + max(1, call.number("heartbeat") or TIMEOUT)
    channels = [name for name in listed if not name.endswith(PRESENCE)]
    happened = call.realm.presence.arrive(call.user_id, channels, until=until, states=_states(call))
    call.realm.announce(happened)


def _states(call: Call) -> dict[str, Any] | None:
    text = call.query.get("state")
    return state_of(text) if text else None


def state_of(text: str) -> dict[str, Any]:
    """Return a state, which is a JSON object."""
    try:
        state = json.loads(text) if len(text) <= STATE_LIMIT else None
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise Refused(sentence(400, "Invalid Arguments: state", service="Presence"))
    return state
