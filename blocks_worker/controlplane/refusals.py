"""What a refusal asks for: another token, another key, which no repeating will change, or a pause."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocks_worker.errors import AgentAuthFatalError, BillingModeMismatchError, QuotaExceededError, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blocks_worker.protocol.tasks import Problem

KEY_INVALID = "API_KEY_INVALID"
#: Words by which the hub says that a key is refused for good.
FATAL_CODES = frozenset({KEY_INVALID, "AGENT_FORCED_OFFLINE"})
#: Words by which the hub says that a new token would do, whatever the status.
STALE_CODES = frozenset(
    {
        "EMBEDDED_JWT_REVOKED",
        "EMBEDDED_JWT_LOGOUT",
        "EMBEDDED_JWT_KILLED",
        "EMBEDDED_JWT_SCOPE_DRIFT",
        "AGENT_OUT_OF_SCOPE",
    }
)

#: Longest pause in seconds that a server may ask for: it would else silence us for good.
LONGEST_PAUSE = 60.0


def pause_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which the server wants to be asked again; None where it says no number."""
    asked = headers.get("retry-after", "")
    return min(float(asked), LONGEST_PAUSE) if asked.isascii() and asked.isdigit() else None


def refusal(status: int, problem: Problem | None) -> RpcError:
    """Return the error that a refusal of the hub becomes."""
    if problem is None:
        text = f"the hub answered with status {status} and without a reason: another server may be at its address"
        return RpcError(text, status=status)
    details = problem.details or {}
    if problem.code == "BillingModeMismatch":
        return BillingModeMismatchError(
            expected=str(details.get("expected", "")), got=str(details.get("got", "")), status=status
        )
    kind = QuotaExceededError if problem.code == "QuotaExceeded" else RpcError
    return kind(problem.message, code=problem.code, status=status, data=details)


@contextmanager
def fatal_told(cure: str = "") -> Iterator[None]:
    """Turn a refusal that is final into `AgentAuthFatalError`; `cure` says what to do about a key that is not taken."""
    try:
        yield
    except RpcError as error:
        if error.code not in FATAL_CODES:
            raise
        more = f"; {cure}" if cure and error.code == KEY_INVALID else ""
        raise AgentAuthFatalError(f"{error.rpc_message}{more}", code=error.code) from error


def key_cure(*, given: bool, environment: bool, is_local: bool) -> str:
    """Return what to do about a key that the hub does not take, by where the key came from.

    Args:
        given: an argument said it.
        environment: else the environment did.
        is_local: the hub is on this machine.
    """
    if given:
        return "pass another api_key"
    if environment and is_local:
        return (
            "BLOCKS_API_KEY (in the environment or .env) holds it: "
            "unset it to use this machine's own key; 'blocks keys create' then makes more of them"
        )
    if environment:
        return "set BLOCKS_API_KEY to a key that the hub's owner gave you"
    return (
        "this machine's own key belongs to another hub than the one that answers there: "
        "set BLOCKS_API_KEY to a key that its owner gave you"
    )
