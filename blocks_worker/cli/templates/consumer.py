"""Send a text to the agent, show how the task gets on, and print the result."""

import sys

from blocks_worker import (
    BlocksError,
    TaskClient,
    TaskEvent,
    create_task_client,
    text_part,
)

AGENT = "@agent@"


def show(event: TaskEvent) -> None:
    """Print how far the task is."""
    if event.progress is not None and event.message is not None:
        print(f"{event.progress:.0%} {event.message}")


def ask(client: TaskClient, text: str) -> str:
    """Send the text, wait for the end of the task and return its result."""
    with client.send_message(AGENT, [text_part(text)]) as session:
        session.on_progress(show)
        return session.result(timeout=30).text


def main() -> None:
    """Ask with the words of the command line."""
    try:
        with create_task_client() as client:
            print(ask(client, " ".join(sys.argv[1:]) or "Ada Grace"))
    except (BlocksError, TimeoutError) as error:
        sys.exit(f"{AGENT}: {error}")
    except KeyError as error:  # a hub elsewhere wants a key
        sys.exit(str(error.args[0]))


if __name__ == "__main__":
    main()
