"""`blocks top`: agents, instances and your tasks, looked at again and again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli.access import errors_told, open_hub
from blocks_worker.cli.fleet import all_agents
from blocks_worker.cli.output import counted, fitting
from blocks_worker.concurrency import Clock
from blocks_worker.observability.redact import one_line
from blocks_worker.protocol.codec import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.tasks import TaskRow

#: Seconds back in which tasks are counted one by one.
WINDOW = 60
#: Pages of them that are read at most, and rows of one.
_PAGES, _PAGE = 8, 256
#: Seconds for which one access token is used.
_ENTRY = 900.0
_OPEN = ("pending", "running", "paused", "input-required")
_ENDED = ("completed", "failed", "canceled")
#: The last seven are counts of the tasks that were sent in the last minute.
_HEADS = (
    *("AGENT", "INSTANCES", "SLOTS", "PENDING", "RUNNING", "PAUSED", "ASKING"),
    *("DONE/MIN", "FAILED/MIN", "CANCELED/MIN"),
)
#: What gives way on a narrow terminal, the first one first; the agent's name never does.
_SPARE = ("PAUSED", "ASKING", "CANCELED/MIN", "PENDING", "INSTANCES", "FAILED/MIN", "SLOTS")
#: Lines of a screen that are no agent's: the summary, which may be wrapped, the heads, and the last one.
_BESIDES = 4


class AgentLook(Wire, omit_defaults=False):
    """One agent: its instances by state, its slots and how many of them are in use, its recent tasks by state."""

    agent_name: str
    instances: dict[str, int]
    slots: int
    busy: int
    recent: dict[str, int]


class Look(Wire, omit_defaults=False):
    """All at one moment."""

    agents: list[AgentLook]
    #: Your tasks that have not ended, by state; None: more than the hub counts.
    open: dict[str, int | None]
    #: Your tasks of the last minute; the newest ones only where `complete` is false.
    sent: int
    #: Of them in a second.
    rate: float
    complete: bool
    #: Of them by state.
    recent: dict[str, int]


@click.command()
@click.option(
    "--interval", default=2.0, show_default=True, type=click.FloatRange(0.2, 3600), help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Look once, and end; without a terminal this is so anyhow.")
@click.option("--json", "as_json", is_flag=True, help="Print each look as one line of JSON.")
def top(*, interval: float, once: bool, as_json: bool) -> None:
    """Show agents with instances and slots, and your tasks: open ones by state, those of the last minute, their rate.

    Ctrl-C ends it.
    """
    is_live = sys.stdout.isatty() and not once and not as_json
    with errors_told():
        if is_live:
            _live(interval)
            return
        for look in _looks(interval):
            click.echo(json.dumps(msgspec.to_builtins(look)) if as_json else "\n".join(lines(look)))
            if once or not as_json:
                return


def _looks(interval: float) -> Iterator[Look]:
    """Yield looks for ever, with a pause before each but the first."""
    clock = Clock()
    while True:
        with open_hub() as hub:
            # Entered anew before its token ends; the hub may have moved meanwhile, too.
            for _ in range(max(1, int(_ENTRY / interval))):
                yield looked(hub)
                clock.pause(interval)


def looked(hub: HubApi) -> Look:
    """Ask the hub for all of it."""
    rows = list(all_agents(hub))
    recent, complete = _recent(hub, Clock().wall_ms() - WINDOW * 1000)
    by_agent: dict[str, Counter[str]] = {}
    for task in recent:
        by_agent.setdefault(task.agent_name, Counter())[task.state] += 1
    agents = [
        AgentLook(
            agent_name=row.agent_name,
            instances=dict(Counter(one.state for one in row.instances)),
            slots=sum(one.concurrency for one in row.instances),
            busy=sum(one.active_tasks for one in row.instances),
            recent=dict(by_agent.get(row.agent_name, {})),
        )
        for row in rows
    ]
    span = WINDOW * 1000 if complete else max(1, Clock().wall_ms() - recent[-1].created_time)
    return Look(
        agents=agents,
        open={state: hub.list_tasks(state=state, limit=1).total_count for state in _OPEN},
        sent=len(recent),
        rate=round(len(recent) * 1000 / span, 2),
        complete=complete,
        recent=dict(Counter(task.state for task in recent)),
    )


def lines(look: Look) -> Iterator[str]:
    """Yield what a look says, a line each, with tabs between columns."""
    yield summary(look)
    yield "\t".join(_HEADS)
    for agent in look.agents:
        yield "\t".join(_cells(agent))


def within(look: Look, room: int) -> tuple[list[AgentLook], str]:
    """Return the agents for so many lines, busy ones first, and what is said of the others; it is a line too."""
    busy = [agent for agent in look.agents if _is_busy(agent)]
    there = [agent for agent in look.agents if agent.instances and not _is_busy(agent)]
    asleep = len(look.agents) - len(busy) - len(there)
    shown = (busy + there)[: room if not asleep and len(busy) + len(there) <= room else max(1, room - 1)]
    hidden = len(look.agents) - len(shown)
    if not hidden:
        return shown, ""
    idle = hidden - sum(_is_busy(agent) for agent in busy[len(shown) :])
    what = "idle" if idle == hidden else f"of them {idle} idle"
    return shown, f"{counted(hidden, 'more agent')}, {what}: 'blocks agents' lists all"


def _is_busy(agent: AgentLook) -> bool:
    return bool(agent.busy or agent.recent)


def summary(look: Look) -> str:
    """Return the sentence about all tasks."""
    still = ", ".join(f"{'many' if count is None else count} {state}" for state, count in look.open.items())
    least = "" if look.complete else "the newest "
    return f"your tasks: {still}; {least}{look.sent} of the last minute, {look.rate:g} a second"


def _cells(agent: AgentLook) -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in agent.instances.items()) or "none"
    counts = [str(agent.recent.get(state, 0)) for state in (*_OPEN, *_ENDED)]
    return [one_line(agent.agent_name), states, f"{agent.busy}/{agent.slots}", *counts]


def _recent(hub: HubApi, since: int) -> tuple[list[TaskRow], bool]:
    """Return the caller's tasks that were sent since then, the newest first, and whether these are all."""
    found: list[TaskRow] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = hub.list_tasks(cursor=cursor, limit=_PAGE)
        fresh = [task for task in page.tasks if task.created_time >= since]
        found += fresh
        cursor = page.next
        if cursor is None or len(fresh) < len(page.tasks):
            return found, True
    return found, not found


def _live(interval: float) -> None:
    """Draw it anew after each pause, until Ctrl-C."""
    from rich.live import Live

    with Live(auto_refresh=False, screen=True) as live:
        for look in _looks(interval):
            live.update(drawn(look, *live.console.size), refresh=True)


def drawn(look: Look, width: int, height: int) -> RenderableType:
    """Return the look as it fits on a screen: first what is yours, then the agents that do something."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown, rest = within(look, max(1, height - _BESIDES))
    rows = [_cells(agent) for agent in shown]
    widths = fitting(_HEADS, rows, _SPARE, width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for place, head in enumerate(_HEADS):
        if head in widths:
            # Words, then numbers.
            table.add_column(head, width=widths[head], no_wrap=True, justify="left" if place < 2 else "right")  # noqa: PLR2004
    for row in rows:
        table.add_row(
            *(Text(cell) for cell, head in zip(row, _HEADS, strict=True) if head in widths)
        )  # names, no markup
    return Group(Text(summary(look)), table, *([Text(rest)] if rest else []))
