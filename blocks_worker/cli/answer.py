"""`blocks answer`: answer the question that a task has open, whoever sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from blocks_worker.cli import completion
from blocks_worker.cli.access import open_hub
from blocks_worker.cli.output import as_typed_here
from blocks_worker.cli.questions import value_of
from blocks_worker.cli.task_ids import chosen_task
from blocks_worker.client.events import TaskEvent
from blocks_worker.client.subscriptions import decoded
from blocks_worker.errors import RpcError
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.lifecycle import ANSWERED, QUESTION_CLOSED
from blocks_worker.protocol.tasks import AnswerTask, EventsQuery

if TYPE_CHECKING:
    from blocks_worker.controlplane.api import HubApi

#: What becomes of a question.
_ENDED = {
    ANSWERED: "; its question {} was answered before",
    QUESTION_CLOSED: "; nobody answered its question {} in time",
}


@click.command()
@click.argument("task", shell_complete=completion.tasks_under_way)
@click.argument("value")
@click.option(
    "--id", "ask_id", metavar="ID", help="Answer this question, and no other.  [default: the one that is open]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the hub's answer as one JSON object.")
def answer(*, task: str, value: str, ask_id: str | None, as_json: bool) -> None:
    """Answer the question of TASK with VALUE: a text, or JSON where the question asks for something else.

    The first answer stands. 'blocks task' shows what a task asks.

    TASK is an id, or its beginning or end as far as no other task of yours has the same.
    """
    with open_hub() as hub, chosen_task(hub, task) as task_id:
        row = hub.get_task(task_id)
        if row.question is None and ask_id is None:
            raise RpcError(f"task {task_id} asks nothing: it is {row.state}{_asked_before(hub, task_id)}")
        is_open = row.question is not None and ask_id in {None, row.question.ask_id}
        schema = row.question.schema if row.question is not None and is_open else None
        name = ask_id or (row.question.ask_id if row.question is not None else "")
        request = AnswerTask(ask_id=name, value=msgspec.Raw(encode(value_of(value, schema))))
        done = hub.answer_task(task_id, request)
    if as_json:
        click.echo(encode(done).decode())
    elif done.already:
        click.echo(f"question {done.ask_id} of task {task_id} was answered so before")
    else:
        follow = as_typed_here(f"'blocks watch {task_id}'")
        click.echo(f"question {done.ask_id} of task {task_id} is answered; {follow} shows how it goes on")


def _asked_before(hub: HubApi, task_id: str) -> str:
    """Return what became of the last question of a task, behind what is said of it; nothing when it never asked."""
    last, after, more = "", 0, True
    while more:
        (found,) = hub.events([EventsQuery(task_id=task_id, after=after)])
        page = found.value()
        events = [TaskEvent.of(raw) for raw in decoded(page)]
        last = next((_ENDED[each.status].format(each.id) for each in reversed(events) if each.status in _ENDED), last)
        after = max((each.seq or 0 for each in events), default=after)
        more = page.more
    return last
