"""Say three things, each as an answer to what came."""

from blocks_worker import TaskClient

lines = ["My bicycle", "A flat tyre", "bye"]

with (
    TaskClient.create("free") as client,
    client.send_message("duplex_chat", "Ada", task_kind="pipe", duration=1) as session,
):
    chat = session.wait_for_stream("chat", timeout=30).open()
    for heard in chat.events():
        print("agent:", heard)
        if heard == "Goodbye.":
            break
        line = lines.pop(0)
        print("me:", line)
        chat.write(line)
    minutes = next(event.artifact_ref for event in session if event.type == "artifact")
    print("minutes:", session.download_artifact(minutes).text())
    session.cancel("we are done")
    print("terminal:", session.wait_for_terminal(timeout=30).state)
