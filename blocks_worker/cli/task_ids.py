"""Which task a person means who typed a part of its id."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from blocks_worker.errors import ConfigurationError, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blocks_worker.controlplane.api import HubApi

#: What to do about an agent that the hub does not know.
AGENTS_LISTED = "'blocks agents' lists them"
#: Characters of a whole id.
_WHOLE = 36
#: Characters of a part: ids made in the same minute begin alike, ends differ.
LEAST = 4
#: Tasks that are looked through, the newest ones; and those of one page.
_MOST, _PAGE = 2048, 256


def found_task(hub: HubApi, text: str) -> str:
    """Return the id of the caller's task that begins or ends with the text.

    What is too short to be looked for, or is found nowhere, is returned as it is: the hub says that there is none.

    Raises:
        ConfigurationError: several tasks do.
    """
    if len(text) >= _WHOLE or len(text) < LEAST:
        return text
    found = matching(text, _newest(hub))
    if len(found) > 1 and text not in found:
        some = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")  # noqa: PLR2004 - as many as are named
        raise ConfigurationError(f"{len(found)} tasks are called {text!r}: {some}; write more of the id")
    return text if text in found or not found else found[0]


@contextmanager
def unknown_told(kind: str, text: str, *, cure: str) -> Iterator[None]:
    """Have the hub's refusal of what it does not know name what was typed, and what to type next.

    Raises:
        ConfigurationError: the hub knows nothing of that name.
    """
    try:
        yield
    except RpcError as error:
        if error.code != "NotFound":
            raise
        raise ConfigurationError(f"there is no {kind} {text!r}, or it is not yours; {cure}") from error


@contextmanager
def chosen_task(hub: HubApi, text: str) -> Iterator[str]:
    """Yield the id of the task that a person means; within, the hub's refusal of it names what was typed.

    Raises:
        ConfigurationError: several tasks are meant, or none.
    """
    short = f"write at least {LEAST} characters of an id; " if len(text) < LEAST else ""
    with unknown_told("task", text, cure=f"{short}'blocks tasks' lists them"):
        yield found_task(hub, text)


def matching(text: str, task_ids: Iterable[str]) -> list[str]:
    """Return the ids that begin or end with the text."""
    return [task_id for task_id in task_ids if task_id.startswith(text) or task_id.endswith(text)]


def _newest(hub: HubApi) -> Iterator[str]:
    cursor: str | None = None
    for _ in range(_MOST // _PAGE):
        page = hub.list_tasks(cursor=cursor, limit=_PAGE)
        yield from (row.task_id for row in page.tasks)
        cursor = page.next
        if cursor is None:
            return
