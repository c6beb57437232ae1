"""New code without a gap: the old process drains while the new one starts."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from support import wait_until

from blocks_worker.concurrency import ServiceThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import World

    from blocks_worker.client.client import TaskClient
    from blocks_worker.client.session import TaskSession

    Open = Callable[[], TaskClient]


def test_a_new_process_takes_over_while_the_old_one_drains(world: World, client: Open) -> None:
    """[R-61] Tasks sent all the while complete: each runs once, in one of the two processes, and none is lost."""
    world.hub()
    old = world.worker("handlers:steady", "--concurrency", "4")
    mine, enough = client(), threading.Event()
    sessions: list[TaskSession] = [mine.send_message(agent_name="steady", request_parts="held")]
    wait_until(lambda: world.notes("start"), 60, "the run that keeps the old process")

    def send() -> None:
        while not enough.wait(0.02):
            sessions.append(mine.send_message(agent_name="steady", request_parts=str(len(sessions))))

    def ends_in(process: int) -> int:
        return sum(pid == str(process) for _, _, _, pid, _ in world.notes("end"))

    sender = ServiceThread("sender", send)
    sender.start()
    try:
        wait_until(lambda: ends_in(old.process.pid) >= 10, 60, "work of the old process")
        old.signal()
        new = world.worker("handlers:steady", "--concurrency", "4")
        wait_until(lambda: ends_in(new.process.pid) >= 10, 60, "work of the new process")
        assert old.process.poll() is None
        world.open_gate()
        assert old.process.wait(60) == 0
        after = len(sessions)
        wait_until(lambda: len(sessions) >= after + 10, 60, "tasks after the end of the old one")
    finally:
        enough.set()
        sender.join(60)

    assert {session.wait_for_terminal(timeout=30).state for session in sessions} == {"completed"}
    runs = Counter(task for _, task, _, _, _ in world.notes("start"))
    assert runs == Counter(session.task_id for session in sessions)
    assert ends_in(old.process.pid) + ends_in(new.process.pid) == len(sessions)
    assert {attempt for _, _, attempt, _, _ in world.notes("start")} == {"1"}
