"""Send a task and wait for its result: in one line, and step by step with callbacks."""

import threading

from blocks_worker import TaskClient, text_part

told_all = threading.Event()


def on_terminal(event):
    print("terminal:", event.state)
    told_all.set()


with TaskClient.create("free") as client:
    print("in one line:", client.run("echo", "Hello").text)

    with client.send_message(agent_name="echo", request_parts=[text_part("Hello again")]) as session:
        session.on_progress(lambda event: print("progress:", event.message or event.state))
        session.on_artifact(lambda event: print("artifact:", event.artifact_ref.mime_type, event.artifact_ref.size))
        session.on_terminal(on_terminal)
        session.wait_for_terminal(timeout=30)
        told_all.wait(timeout=10)
        print("step by step:", session.text())
        print("saved:", *session.save_artifacts("artifacts"))
