"""Names of channels, and which names may become part of one."""

from __future__ import annotations

import re

from blocks_worker.errors import InvalidMessageError

#: What an owner may be called, because the name stands in a channel.
OWNER = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
#: What an agent may be called.
AGENT = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
#: What an instance may be called; it is also the user id on the transport.
INSTANCE = re.compile(r"[A-Za-z0-9_-]{1,92}\Z")
#: Ids of tasks, whoever makes them.
TASK = re.compile(r"[A-Za-z0-9-]{1,64}\Z")

RESERVED_OWNERS = frozenset({"agent", "obs", "sys", "u", "anonymous", "system", "stream"})


def control_channel(agent_id: str) -> str:
    """Return where one instance listens; `agent_id` is the hub's id of the instance."""
    return f"agent.{agent_id}.control"


def task_channel(owner_id: str, task_id: str) -> str:
    """Return where one task speaks to whoever holds its read grant."""
    return f"u.{owner_id}.{task_id}"


def session_channel(session_id: str) -> str:
    """Return where all tasks of one client speak to it."""
    return f"session.{session_id}"


def wake_channel(user_id: str) -> str:
    """Return the private channel by which a process wakes its own poll."""
    return f"w.{user_id}"


def stream_wake_channel(user_id: str) -> str:
    """Return the private channel by which a process wakes the poll of its streams."""
    return f"w.{user_id}.streams"


def held_wake_channel(read_channel: str) -> str:
    """Return the channel by which a process that holds no more than a stream's token wakes its own poll."""
    return f"{read_channel}.w"


def check_name(kind: str, value: str, pattern: re.Pattern[str]) -> str:
    """Return the name when it fits the pattern.

    Raises:
        InvalidMessageError: it does not.
    """
    if not pattern.match(value):
        raise InvalidMessageError(
            "name", f"{kind} {value[:80]!r} does not match {pattern.pattern.removesuffix(chr(92) + 'Z')}"
        )
    return value
