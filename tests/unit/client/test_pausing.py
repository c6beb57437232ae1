"""Turning the pause flag over a line that loses answers, against the hub's own services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import ANN, World
from support import SeededEntropy

from blocks_worker.client.pausing import paused
from blocks_worker.client.repeating import repeated
from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.errors import HubUnavailableError, RpcError
from blocks_worker.protocol.tasks import Problem, TaskRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.hub.answers import Reply


class Line:
    """The hub's interface in this process; `lost` answers to pauses do not arrive, and `meanwhile` happens then."""

    def __init__(self, world: World, *, lost: int = 0, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._world = world
        self._lost = lost
        self._meanwhile = meanwhile

    def get_task(self, task_id: str) -> TaskRow:
        """Return the row."""
        return _row(self._world.store.read(lambda ledger: self._world.tasks.get(ledger, ANN, task_id)))

    def pause_task(self, task_id: str, pause_seq: int, *, on: bool, timeout: float | None = None) -> TaskRow:
        """Turn the flag."""
        assert timeout is not None
        reply = self._world.pause(task_id, on=on, seq=pause_seq)
        if self._lost > 0:
            self._lost -= 1
            self._meanwhile()
            raise HubUnavailableError("test://hub", "the answer was lost")
        return _row(reply)


def _row(reply: Reply) -> TaskRow:
    if isinstance(reply.body, Problem):
        raise RpcError(reply.body.message, code=reply.body.code, status=reply.status)
    assert isinstance(reply.body, TaskRow)
    return reply.body


def turn(line: Line, *, on: bool) -> TaskRow:
    """Turn the flag of the one task."""

    def patiently(act: Callable[[], Any], deadline: Deadline) -> Any:
        return repeated(act, deadline, clock=Clock(), entropy=SeededEntropy(1))

    return paused(line, "t1", on=on, deadline=Deadline(10), patiently=patiently)  # type: ignore[arg-type]  # its two verbs


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one task that waits."""
    with World() as world:
        world.add_agent()
        world.add()
        yield world


def test_the_state_is_told(world: World) -> None:
    """[R-57] Pause and resume return the task as it is then, and may be asked for again."""
    line = Line(world)

    assert [turn(line, on=True).state for _ in range(2)] == ["paused", "paused"]
    assert [turn(line, on=False).state for _ in range(2)] == ["pending", "pending"]
    assert world.row().pause_seq == 2


def test_a_lost_answer_pauses_once(world: World) -> None:
    """[R-57] The same question is asked again, and turns the flag no second time."""
    assert turn(Line(world, lost=2), on=True).state == "paused"
    assert world.row().pause_seq == 1


def test_a_repeated_pause_does_not_undo_a_resume(world: World) -> None:
    """[R-57] While the answer to a pause was lost somebody resumed the task: it stays resumed, and that is told."""
    line = Line(world, lost=1, meanwhile=lambda: world.pause(on=False))

    assert turn(line, on=True).state == "pending"
    assert (world.row().pause, world.row().pause_seq) == (0, 2)


def test_what_is_over_stays(world: World) -> None:
    """A task that has ended is not touched, and its end is told."""
    world.cancel()

    assert turn(Line(world), on=True).state == "canceled"
    assert world.row().pause_seq == 0
