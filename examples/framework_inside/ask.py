"""Ask the agent twice, and a third time for something that takes long, which is stopped at its first word."""

from blocks_worker import TaskClient

with TaskClient.create("free") as client:
    for question in (
        "Which function of math gives the largest integer?",
        "What gives the n smallest elements of a dataset?",
    ):
        result = client.run("framework_inside", question)
        print("answer:", result.text[:70])
        print("steps:", result.artifacts[1].text())

    with client.send_message("framework_inside", "Is there anything about zeppelins?") as session:
        for event in session:
            if event.message:
                print("status:", event.message)
                session.cancel("that is enough")
        print("terminal:", session.state)
        print("kept:", *(session.download_artifact(ref).text() for ref in session.list_artifacts()))
