"""One request on its way to an answer: whose realm it is for, what it asks, who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.hub.network.wire import Refused, Request, query_of, sentence, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.network.access import AccessManager
    from blocks_worker.hub.network.realm import Realm

#: Characters of a user id.
USER_ID_LIMIT = 92


@dataclass(slots=True)
class Call:
    """Be a request for one realm; `access` None means that everybody may do everything."""

    realm: Realm
    request: Request
    query: dict[str, str]
    user_id: str
    access: AccessManager | None

    def demand(self, channels: Sequence[str], bit: int) -> None:
        """Make sure that who asks has this right on these channels; otherwise `Denied` is raised."""
        if self.access is not None:
            self.access.demand(self.query.get("auth"), self.user_id, channels, bit)

    def is_revoked(self) -> bool:
        """Tell whether the right of who asks was taken back since."""
        return self.access is not None and self.access.is_revoked(self.query.get("auth"))

    def number(self, name: str) -> int | None:
        """Return a parameter that is a whole number, None when it is missing or empty."""
        try:
            return whole(self.query.get(name))
        except ValueError:
            raise Refused(sentence(400, f"Invalid Arguments: {name}")) from None

    def asks(self, name: str, *, default: bool = False) -> bool:
        """Tell whether a parameter says yes."""
        value = self.query.get(name)
        return default if not value else value in ("1", "true")


def called(realm: Realm, request: Request, access: AccessManager | None) -> Call:
    """Return the call that a request is."""
    query = query_of(request.query) if request.query else {}
    user_id = query.get("uuid", "")
    if len(user_id) > USER_ID_LIMIT:
        raise Refused(sentence(400, "Invalid Arguments: uuid"))
    return Call(realm, request, query, user_id, access)
