"""The values of a generator as a stream of events, where one is negotiated and it is plain which."""

from __future__ import annotations

import contextlib
import inspect
import json
from typing import TYPE_CHECKING, Any

from blocks_worker.handlers.results import to_json

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from blocks_worker.context.task import TaskContext
    from blocks_worker.protocol.declared import DeclaredStream


def streamed(returned: Any, context: TaskContext, declared: Mapping[str, DeclaredStream]) -> Any:
    """Return what a handler returned; a generator whose values went out as they came was nothing more than these.

    Without a stream that is plainly meant it stays what it is. One whose task is to stop is closed where it stands.
    """
    asked = _plainly_meant(declared)
    if not inspect.isgenerator(returned) or not context.has_stream or asked is None:
        return returned
    _write_all(returned, context, asked)
    return None


def _write_all(values: Generator[Any, Any, Any], context: TaskContext, asked: dict[str, str]) -> None:
    with contextlib.closing(values), context.create_stream(**asked) as stream:
        for value in values:
            if context.is_cancelled:
                return
            stream.write(json.loads(to_json(value)))


def _plainly_meant(declared: Mapping[str, DeclaredStream]) -> dict[str, str] | None:
    """Return how to ask for the one stream that can carry the values; None when there is none, or a choice."""
    if not declared:
        return {"format": "events"}
    fitting = [
        name
        for name, stream in declared.items()
        if (stream.direction, stream.format, stream.affinity) == ("outbound", "events", "dedicated")
    ]
    return {"declared_stream": fitting[0]} if len(fitting) == 1 else None
