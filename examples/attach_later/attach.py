"""Join the task of another process, while it runs or after its end."""

from pathlib import Path

from blocks_worker import TaskClient

with TaskClient.create("free") as client, client.connect(Path("task_id.txt").read_text()) as session:
    print("found:", session.state, "with", len(session.list_events()), "events so far")
    session.wait_for_terminal(timeout=30)
    print("result:", session.text())
