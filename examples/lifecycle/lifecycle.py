"""Pause, resume, cancel, send again, and the same key twice."""

import uuid

from blocks_worker import TaskClient

# Of an order, an invoice, a form: whatever is the same when the same is asked for twice.
KEY = f"lifecycle-{uuid.uuid4()}"


def wait_for(session, word):
    for event in session:
        if word in (event.state, event.status):
            print("event:", word)
            return


with TaskClient.create("free") as client:
    first = client.send_message("steps", "20", idempotency_key=KEY)
    again = client.send_message("steps", "20", idempotency_key=KEY)
    print("same key, same task:", first.task_id == again.task_id, again.idempotent)

    wait_for(first, "running")
    client.pause_task(first.task_id)
    wait_for(first, "paused")
    print("state:", first.state)
    client.resume_task(first.task_id)
    wait_for(first, "resumed")

    print("still ran:", first.cancel("seen enough"))
    terminal = first.wait_for_terminal(timeout=30)
    print("terminal:", terminal.state, terminal.reason)
    (ref,) = first.list_artifacts()
    print("kept:", first.download_artifact(ref).text())
    print("cancel once more:", first.cancel())

    with client.connect(client.retry_task(first.task_id)) as second:
        wait_for(second, "running")
        print("sent again, as another task:", second.task_id != first.task_id)
        second.cancel("that was all")
        print("terminal:", second.wait_for_terminal(timeout=30).reason)
