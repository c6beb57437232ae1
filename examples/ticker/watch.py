"""Open a pipe for a minute, take five prices, and close it."""

from itertools import islice

from blocks_worker import TaskClient, text_part

with (
    TaskClient.create("free") as client,
    client.send_message(
        agent_name="ticker", request_parts=[text_part("ACME")], task_kind="pipe", duration=1
    ) as session,
):
    prices = session.wait_for_stream("prices", timeout=30).open().events()
    for price in islice(prices, 5):
        print("price:", price["symbol"], price["price"])
    session.cancel("seen enough")
    print("terminal:", session.wait_for_terminal(timeout=30).state)
    print("said:", session.download_artifact(session.list_artifacts()[0]).text())
