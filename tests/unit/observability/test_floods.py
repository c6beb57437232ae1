"""The bound of what one task may write to the log, at chosen moments."""

from __future__ import annotations

from blocks_worker.observability.floods import LINES, TASKS, FloodGate


def written(gate: FloodGate, task: str, lines: int, now: float) -> int:
    """Have a task write so many lines at a moment; return how many pass."""
    return sum(gate.passes(task, now) for _ in range(lines))


def test_a_second_takes_so_many() -> None:
    """What comes beyond is counted until it is told; the next second takes as many again. [C18]"""
    gate = FloodGate()

    assert written(gate, "a", LINES + 7, 10.0) == LINES
    assert written(gate, "a", 3, 10.9) == 0
    assert written(gate, "a", 5, 11.0) == 5
    assert (gate.left_out("a"), gate.left_out("a"), gate.dropped) == (10, 0, 10)


def test_tasks_are_apart() -> None:
    """One that writes without end takes nothing from another; a task that wrote nothing has left nothing out."""
    gate = FloodGate()
    written(gate, "loud", 2 * LINES, 10.0)

    assert written(gate, "calm", LINES, 10.0) == LINES
    assert gate.left_out("unknown") == 0


def test_a_clock_that_is_set_back_silences_nobody() -> None:
    """A task whose second lies in the future begins a new one."""
    gate = FloodGate()
    written(gate, "a", 2 * LINES, 4_000.0)

    assert written(gate, "a", LINES, 400.0) == LINES


def test_what_is_remembered_is_bounded() -> None:
    """Of very many tasks those that wrote longest ago are forgotten."""
    gate = FloodGate()
    gate.passes("first", 1.0)
    written(gate, "second", LINES + 1, 1.0)
    for number in range(TASKS - 1):
        gate.passes(str(number), 1.0)
    gate.passes("second", 1.0)

    assert gate.left_out("second") == 2
    assert written(gate, "first", LINES, 1.0) == LINES
