"""What a generator yields goes out while it is made, where the task has a stream of events for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blocks_worker.handlers.results import to_json
from blocks_worker.streams.packing import without_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from blocks_worker.worker.run_streams import RunStreams

    Values = Generator[Any, Any, object]


def carried_out(values: Values, streams: RunStreams, is_stopped: Callable[[], bool]) -> object:
    """Write what a generator yields to the stream that there is for it; return what artifacts are to be made of.

    With the stream that is what the generator returns; without one it is the generator. A generator that opens
    streams of its own is taken to write there what it has to say. Once the task is to stop it is closed.
    """
    name = streams.for_values()
    if name is None:
        return values
    try:
        found = [next(values)]
    except StopIteration as end:
        found, rest = [], _nothing(end.value)
    else:
        rest = values
    if streams.is_used:
        return _together(found, rest)
    with streams.open_for_values(name) as stream:
        return _written(_together(found, rest), stream.write, is_stopped)


def _written(values: Values, write: Callable[[Any], None], is_stopped: Callable[[], bool]) -> object:
    try:
        while not is_stopped():
            write(as_event(next(values)))
    except StopIteration as end:
        return end.value
    finally:
        values.close()
    return None


def as_event(value: Any) -> Any:
    """Return a value as JSON has it: dataclasses and pydantic models become objects, bytes inside are marked.

    Raises:
        ArtifactError: it holds what JSON cannot carry.
    """
    if isinstance(value, (str, int, float, bytes, type(None))):
        return value
    return json.loads(to_json(without_bytes(value)))


def _together(found: list[Any], rest: Values) -> Values:
    """Yield what was found, then the rest; closed with it."""
    try:
        yield from found
        return (yield from rest)
    finally:
        rest.close()


def _nothing(value: object) -> Values:
    """Be a generator that is over and has returned this."""
    yield from ()
    return value
