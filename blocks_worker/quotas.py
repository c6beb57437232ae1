"""How much of a hub one owner, one run or one address may have: the numbers, and the variables that say them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from msgspec import structs

from blocks_worker.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.protocol.leases import Numbers


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """Say how much there is for one; 0 means no limit.

    Attributes:
        open_tasks: tasks of one owner that have not ended.
        submits: new tasks of one owner in a second; twice as many may come at once.
        input_bytes: inputs of one owner that are kept, their files too.
        run_events: events that one run may store.
        run_event_bytes: bytes of them.
        address_connections: connections of one address to the hub, and as many to its network; None: three quarters
            of all that there may be, and from this machine any number.
    """

    open_tasks: int = 100_000
    submits: int = 20_000
    input_bytes: int = 32 * 1024**3
    run_events: int = 1_000_000
    run_event_bytes: int = 1024**3
    address_connections: int | None = None

    def told_with(self, numbers: Numbers) -> Numbers:
        """Return the numbers that workers are told, with what one run may store."""
        return structs.replace(numbers, run_events=self.run_events, run_event_bytes=self.run_event_bytes)


#: The variable of each quota.
VARIABLES = {
    "open_tasks": "BLOCKS_MAX_OPEN_TASKS",
    "submits": "BLOCKS_MAX_SUBMITS",
    "input_bytes": "BLOCKS_MAX_INPUT_BYTES",
    "run_events": "BLOCKS_MAX_RUN_EVENTS",
    "run_event_bytes": "BLOCKS_MAX_RUN_EVENT_BYTES",
    "address_connections": "BLOCKS_MAX_ADDRESS_CONNECTIONS",
}


def quotas_of(env: Mapping[str, str], given: Mapping[str, int | None] | None = None) -> Quotas:
    """Return the quotas: each as `given`, else as its variable says, else its default.

    Raises:
        ConfigurationError: a variable is no whole number.
    """
    told = given or {}
    chosen = {
        one.name: told[one.name] if told.get(one.name) is not None else _read(env, one.name) for one in fields(Quotas)
    }
    return Quotas(**{name: number for name, number in chosen.items() if number is not None})


def _read(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(VARIABLES[name], "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:17]) < 2**53):
        raise ConfigurationError(
            f"{VARIABLES[name]}={text!r} is no whole number of zero or more; mend it or unset it (0: no limit)"
        )
    return int(text)
