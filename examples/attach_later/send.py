"""Send a task and leave: only its id is kept."""

from pathlib import Path

from blocks_worker import TaskClient

with TaskClient.create("free") as client:
    session = client.send_message("count", "10")
    Path("task_id.txt").write_text(session.task_id)
    print("sent", session.task_id)
