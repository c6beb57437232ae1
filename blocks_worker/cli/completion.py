"""What a shell offers behind TAB: agents and tasks of the hub, handlers of this folder; nothing when in doubt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from blocks_worker.cli.access import quick_hub
from blocks_worker.handlers.registry import find_registry, get_available_handlers, load_registry, search_places
from blocks_worker.observability.redact import one_line
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import click

    from blocks_worker.protocol.tasks import TaskRow

    #: What click asks for the values of a parameter.
    Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

#: Seconds for one answer of the hub: whoever pressed TAB waits for it.
_PATIENCE = 1.0
#: Tasks that are offered, the newest ones.
_TASKS = 50
#: States in which a task can be sent again.
_AGAIN = frozenset({"failed", "canceled"})


def _offer(values: Callable[[], Iterable[tuple[str, str | None]]]) -> Offer:
    """Return what offers the values that begin as what was typed; a shell has no place for an error."""

    def offer(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return [
                CompletionItem(value, help=None if told is None else one_line(told))
                for value, told in values()
                if value.startswith(incomplete)
            ]
        except (Exception, SystemExit):  # noqa: BLE001 - whatever it is, there is nothing to offer
            return []

    return offer


def _agents() -> list[tuple[str, str | None]]:
    with quick_hub(_PATIENCE) as hub:
        return [(row.agent_name, row.description) for row in hub.agents().agents]


def _tasks(wanted: Callable[[TaskRow], bool], dead: str | None = None) -> list[tuple[str, str | None]]:
    with quick_hub(_PATIENCE) as hub:
        rows = hub.list_tasks(limit=_TASKS, dead=dead).tasks
    return [(row.task_id, f"{row.agent_name} {row.state}") for row in rows if wanted(row)]


def _handlers() -> list[tuple[str, str | None]]:
    registry = load_registry(find_registry(search_places(Path.cwd())))
    return [(name, None) for name in get_available_handlers(registry)]


#: Offers for the parameters of our commands.
agents = _offer(_agents)
tasks = _offer(lambda: _tasks(lambda _row: True))
tasks_under_way = _offer(lambda: _tasks(lambda row: row.state not in SHOWN_TERMINAL))
tasks_to_retry = _offer(lambda: _tasks(lambda row: row.state in _AGAIN))
tasks_that_ended = _offer(lambda: _tasks(lambda row: row.state in SHOWN_TERMINAL))
dead_tasks = _offer(lambda: _tasks(lambda _row: True, dead="any"))
handlers = _offer(_handlers)
