"""What a task asks, shown at the command line, and the answer as it is typed there."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from blocks_worker.cli.output import as_typed_here, printable
from blocks_worker.errors import RpcError
from blocks_worker.observability.redact import one_line
from blocks_worker.protocol.schemas import foreign_schema

if TYPE_CHECKING:
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session import TaskSession

#: The word by which the hub says that an answer does not fit: the question is still open.
_MISFIT = "InvalidAnswer"


def value_of(text: str, schema: dict[str, Any] | None) -> Any:
    """Return what a text at the command line answers: itself, or, where the question wants that, the JSON it holds."""
    check = None if schema is None else foreign_schema(schema)
    if check is None or not check.find(text):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    wants_text = schema is not None and schema.get("type") == "string"
    return text if wants_text and check.find(value) else value


def can_ask() -> bool:
    """Tell whether a person sits there who can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def told(event: TaskEvent) -> str:
    """Return a question and how to answer it from elsewhere."""
    asked = one_line(f"question {event.id}: {event.text}{choices(event.schema)}")
    command = as_typed_here(f"'blocks answer {event.task_id} VALUE'")
    return f"{asked}; answer it with {command}"


def ask(session: TaskSession, event: TaskEvent) -> None:
    """Ask the person at the terminal until there is an answer; at the end of the input leave the question open."""
    while True:
        click.echo(f"{printable(event.text or '')}{one_line(choices(event.schema))}\n> ", err=True, nl=False)
        line = sys.stdin.readline()
        if not line:
            click.echo(told(event), err=True)
            return
        try:
            session.answer(event.id or "", value_of(line.rstrip("\r\n"), event.schema))
        except RpcError as refused:
            click.echo(one_line(refused.rpc_message), err=True)
            if refused.code == _MISFIT:
                continue
        return


def choices(schema: dict[str, Any] | None) -> str:
    """Return what may be answered, where the question lists it."""
    values = (schema or {}).get("enum")
    if not isinstance(values, list):
        return ""
    return f" ({', '.join(value if isinstance(value, str) else json.dumps(value) for value in values)})"
