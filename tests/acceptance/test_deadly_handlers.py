"""Handlers that take their process down, and one that changes what belongs to all of it: real daemons."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import World

    from blocks_worker import TaskClient

    Open = Callable[[], TaskClient]


def test_a_task_that_kills_each_worker_is_given_up(world: World, client: Open) -> None:
    """Three workers die of it, by a fault, an abort, an exit; then it is a dead letter; others are done. [B15] [C11]"""
    world.hub()
    program = ("blocks-run", "--handler", "deadly:handler", "--no-local", "--instance-id", "one")
    worker = world.start(*program)
    worker.wait_for("[agent] ready")
    consumer = client()
    deadly, harmless = consumer.send_message("deadly", "deadly"), consumer.send_message("deadly", "harmless")
    for life, code in enumerate((-signal.SIGSEGV, -signal.SIGABRT, 0), 1):
        wait_until(lambda worker=worker: worker.process.poll() is not None, 90, f"the death of worker {life}")  # type: ignore[misc]
        assert worker.process.returncode == code
        assert len(world.notes("deadly")) == life
        worker = world.start(*program)

    end = deadly.wait_for_terminal(90)
    assert (end.state, end.error_code) == ("failed", "lease_lost")
    assert harmless.text(60) == "done: harmless"
    assert [row.task_id for row in consumer.list_tasks(dead="poison").tasks] == [deadly.task_id]
    assert len(world.notes("deadly")) == 3
    assert worker.terminate() == 0


def test_a_handler_that_changes_the_process_spoils_no_other(world: World, client: Open) -> None:
    """Folder, environment, socket limits, logging: a hundred tasks run on, files travel, SIGTERM drains. [C14]"""
    world.hub()
    worker = world.worker("deadly:changes", "--no-local")
    consumer = client()

    assert consumer.run("changes", "change", 30).text.startswith("changed, on executor-")
    results = [session.text(30) for session in consumer.send_many(
        [{"agent_name": "changes", "request_parts": str(number)} for number in range(100)]
    )]  # fmt: skip
    large = consumer.run("changes", "large", 30).text
    assert results == [f"done: {number}" for number in range(100)]
    assert large == "done: large" * 20_000
    assert worker.terminate() == 0
