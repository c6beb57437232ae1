"""Read the words as they come."""

from blocks_worker import TaskClient

with TaskClient.create("free") as client, client.send_message("echo_stream", "one word after another") as session:
    for word in session.wait_for_stream("words", timeout=30).open().events():
        print("heard:", word)
    print("in all:", session.text())
