"""What has to hold before a part can serve: one entry a condition, and the one answer that is made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_READY, _NOT_READY = 200, 503


class Condition(NamedTuple):
    """One condition; `says` tells people how it stands, and holds nothing of a tenant."""

    name: str
    is_met: bool
    says: str


def as_json(conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    """Return the conditions as they are told."""
    return [{"name": one.name, "ok": one.is_met, "says": one.says} for one in conditions]


def verdict(conditions: Iterable[Condition], **more: object) -> tuple[int, bytes]:
    """Return status and body that tell whether all conditions hold, and which do not."""
    known = list(conditions)
    is_ready = all(one.is_met for one in known)
    body = {"status": "ready" if is_ready else "not ready", "conditions": as_json(known), **more}
    return _READY if is_ready else _NOT_READY, json.dumps(body).encode()
