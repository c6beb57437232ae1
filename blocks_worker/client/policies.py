"""A retry policy as callers write it, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from blocks_worker.protocol.events import ErrorCode
from blocks_worker.protocol.tasks import MAX_ATTEMPTS, MAX_SECONDS, NEVER_AGAIN, RetryPolicy

_KEYS = ("maxAttempts", "initialDelaySec", "maxDelaySec", "retryOn")
#: Codes with which a run may fail, but for the one after which no other run helps.
_CODES = tuple(code for code in get_args(ErrorCode) if code != NEVER_AGAIN)


def policy_of(given: Mapping[str, Any]) -> RetryPolicy:
    """Return the policy that a dict tells.

    Raises:
        TypeError: it is no dict, or its codes are no list.
        ValueError: a key is not known, or a value does not fit.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"retry_policy is a dict with {', '.join(_KEYS)}, not {type(given).__name__}")
    unknown = sorted(str(key) for key in given if key not in _KEYS)
    if unknown:
        raise ValueError(f"retry_policy does not know {', '.join(unknown)}; it takes {', '.join(_KEYS)}")
    return RetryPolicy(
        max_attempts=_attempts(given.get("maxAttempts", 1)),
        initial_delay_sec=_seconds("initialDelaySec", given.get("initialDelaySec", 1.0)),
        max_delay_sec=_seconds("maxDelaySec", given.get("maxDelaySec", 60.0)),
        retry_on=_codes(given.get("retryOn")),
    )


def _attempts(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_ATTEMPTS:
        raise ValueError(f"maxAttempts of retry_policy is a whole number, 1 to {MAX_ATTEMPTS}, not {value!r}")
    return value


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"{name} of retry_policy is a number of seconds, 0 to {MAX_SECONDS}, not {value!r}")
    return float(value)


def _codes(value: object) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"retryOn of retry_policy is a list of error codes, not {value!r}")
    if NEVER_AGAIN in value:
        raise ValueError(f"retryOn of retry_policy cannot name {NEVER_AGAIN}: the same input stays wrong")
    unknown = sorted(str(code) for code in value if code not in _CODES)
    if unknown:
        raise ValueError(f"retryOn of retry_policy does not know {', '.join(unknown)}; there are {', '.join(_CODES)}")
    return sorted(value)
