"""Read the first stream of a task like a file that is still being written."""

from blocks_worker import TaskClient

with TaskClient.create("free") as client, client.send_message("report", "the year") as session:
    stream = session.wait_for_stream(timeout=30).open()
    stream.on_error(lambda error: print("trouble:", error.category, error.error))
    for line in stream.as_file():
        print("read:", line.decode().rstrip())
    print("state:", session.wait_for_terminal(timeout=30).state)
