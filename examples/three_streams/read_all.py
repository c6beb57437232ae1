"""Read each of the three as it suits."""

from blocks_worker import TaskClient

with (
    TaskClient.create("free") as client,
    client.send_message("three_streams", "first", task_kind="pipe", duration=1) as session,
):
    news = session.wait_for_stream("news", timeout=30).open()
    print("news:", next(iter(news.events())))
    log = session.wait_for_stream("log", timeout=30).open()
    print("log:", log.as_file().readline().decode().rstrip())
    steps = session.wait_for_stream("steps", timeout=30).open()
    print("steps:", [event["step"] for event in steps.events()])
    print("streams:", sorted(ref.descriptor.declared_stream for ref in session.list_streams()))
    session.cancel()
    print("terminal:", session.wait_for_terminal(timeout=30).state)
