"""Questions outlive who asked them: workers killed and drained, a hub killed, answers given meanwhile."""

import json
import time
from collections.abc import Callable

from acceptance.conftest import World
from support import wait_until

from blocks_worker.client.client import TaskClient

Open = Callable[[], TaskClient]


def test_an_answer_is_there_for_the_run_that_comes_after(world: World, client: Open) -> None:
    """[J16] [D1] [D4] After kill -9 and after SIGTERM the task waits without a worker, over a killed hub too."""
    hub = world.hub()
    worker = world.worker("handlers:inquire", "--no-local", "--concurrency", "1")
    consumer = client()
    sessions = [consumer.send_message("inquire", name) for name in ("one", "two")]
    for session in sessions:
        wait_until(lambda session=session: session.open_question, 30, what="the question")

    worker.kill()
    done = world.run("blocks", "answer", sessions[0].task_id, "true", "--json")
    assert json.loads(done.stdout)["value"] is True
    worker = world.worker("handlers:inquire", "--no-local", "--concurrency", "1")
    assert sessions[0].text(60) == "one: True"
    assert consumer.get_task(sessions[1].task_id).state == "input-required"

    third = consumer.send_message("inquire", "three")
    wait_until(lambda: third.open_question, 30, what="the question")
    begun = time.monotonic()
    assert worker.terminate(60) == 0
    assert time.monotonic() - begun < 10
    hub.kill()
    world.hub()
    assert third.answer("ask-1", False) == "pending"
    assert sessions[1].answer("ask-1", True) == "pending"
    world.worker("handlers:inquire", "--no-local", "--concurrency", "1")
    assert (third.text(60), sessions[1].text(60)) == ("three: False", "two: True")

    runs = [task for _, task, *_ in world.notes("start")]
    assert sorted(runs.count(session.task_id) for session in (*sessions, third)) == [2, 2, 2]
    assert {consumer.get_task(task).extra["attempt"] for task in set(runs)} == {2}
