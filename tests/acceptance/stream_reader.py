"""A consumer in a process of its own that reads one stream: ``python stream_reader.py '{"kind": "events", …}'``.

It warms up with a short stream, says so, waits for a line on stdin, and then reads the long one. Its last line says
what came: how much, the digest of all of it, whether the order was right, and every trouble that it was told of.
"""

import hashlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

from blocks_worker import TaskClient

#: Bytes of one event, and of one write to a stream of bytes.
EVENT, WRITE = 100, 8 * 1024
#: After so many bytes the progress is noted, and a slow reader rests for so many seconds.
NOTED, REST = 64 * 1024, 0.005


def event_of(number: int) -> str:
    """Return an event of 100 bytes that says its number."""
    return f"{number:08d}".ljust(EVENT, "x")


def bytes_of(number: int) -> bytes:
    """Return the bytes of one write: they say their number, and text would not carry them."""
    return (number.to_bytes(4, "big") + b"\xff\x00").ljust(WRITE, bytes([number % 251]))


def size_of(kind: str, count: int) -> int:
    """Return how many bytes so many writes are."""
    return count * (EVENT if kind == "events" else WRITE)


def digest_of(kind: str, count: int) -> str:
    """Return the digest of all that is written."""
    digest = hashlib.sha256()
    for number in range(count):
        digest.update(event_of(number).encode() if kind == "events" else bytes_of(number))
    return digest.hexdigest()


def read(client: TaskClient, wish: dict[str, Any]) -> dict[str, Any]:
    """Read one stream to its end."""
    progress = Path(wish.get("progress", "/dev/null"))
    rest = threading.Event()
    digest, size, noted = hashlib.sha256(), 0, 0
    with client.send_message("flood", json.dumps(wish), stream=True) as session:
        stream = session.wait_for_stream(timeout=30).open()
        told: list[str] = []
        stream.on_error(lambda error: told.append(error.category))
        for item in stream.events() if wish["kind"] == "events" else stream.bytes():
            data = item.encode() if isinstance(item, str) else item
            digest.update(data)
            size += len(data)
            if size - noted >= NOTED:
                noted = size
                progress.write_text(str(size))
                if size < wish.get("slow", 0):
                    rest.wait(REST)
            while size >= wish.get("rests_at", sys.maxsize) and not Path(wish["gate"]).exists():
                rest.wait(0.02)
        state = session.wait_for_terminal(60).state
    return {"size": size, "digest": digest.hexdigest(), "told": told, "state": state}


def main(text: str) -> None:
    """Do it."""
    wish = json.loads(text)
    with TaskClient.create("free") as client:
        warm = read(client, {"kind": wish["kind"], "count": wish["warm"]})
        sys.stdout.write(json.dumps(warm) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
        sys.stdout.write(json.dumps(read(client, wish)) + "\n")
        sys.stdout.flush()
        # Whoever looks at the memory of this process comes before it ends.
        sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1])
