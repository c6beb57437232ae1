"""The built-in handler `adder`: adds two numbers of a JSON part."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from blocks_worker.protocol.parts import RequestPart

if TYPE_CHECKING:
    from blocks_worker.context.messages import StartTaskMessage

_KIND = "math_add"


def handler(task: StartTaskMessage) -> dict[str, Any]:
    """Add the numbers `a` and `b` of the first part that holds both, in its JSON text or in its keys."""
    answer = json.dumps(_answer(task.request_parts), indent=2, ensure_ascii=False)
    return {"artifacts": [{"data": answer, "mimeType": "application/json"}]}


def _answer(parts: list[Any]) -> dict[str, Any]:
    for part in parts:
        numbers = _numbers(part)
        if numbers is not None:
            return _sum(*numbers, parts)
    return _refused("no part holds two finite numbers 'a' and 'b'", parts)


def _sum(a: float, b: float, parts: list[Any]) -> dict[str, Any]:
    try:
        total = a + b
    except OverflowError:  # a whole number beyond every float, and a float
        total = math.inf
    if total in (math.inf, -math.inf):
        return _refused("the sum is too large", parts)
    return {"ok": True, "a": a, "b": b, "sum": total}


def _refused(error: str, parts: list[Any]) -> dict[str, Any]:
    return {"ok": False, "error": error, "input": parts}


def _numbers(part: object) -> tuple[float, float] | None:
    """Return both numbers of a part, or None when it does not ask for their sum."""
    if not isinstance(part, RequestPart):
        return None
    for asked in (_parsed(part.text), part.extra):
        if isinstance(asked, dict) and asked.get("kind", _KIND) == _KIND:
            a, b = asked.get("a"), asked.get("b")
            if _is_number(a) and _is_number(b):
                return a, b  # type: ignore[return-value]  # numbers by the line above
    return None


def _parsed(text: str | None) -> object:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)
