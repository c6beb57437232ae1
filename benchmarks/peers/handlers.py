"""The product's handlers beside its echo: one tells many events, one writes many bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from peers.lines import MIB, PIECE, line, piece

if TYPE_CHECKING:
    from blocks_worker import TaskContext
    from blocks_worker.context.messages import StartTaskMessage

#: Milliseconds that the writer waits for its reader: who comes late has the last MiB only.
_GRACE_MS = 30_000


def tell(task: StartTaskMessage, ctx: TaskContext) -> None:
    """Tell as many events as the text says: artifacts, of which each is stored; of progress one a second is."""
    for number in range(int(task.text())):
        ctx.publish_artifact(line(number))


def pour(task: StartTaskMessage, ctx: TaskContext) -> str:
    """Write as many MiB as the text says to a stream; return the digest of what was written."""
    digest = hashlib.sha256()
    with ctx.create_stream(subscribe_grace_ms=_GRACE_MS) as stream:
        for number in range(int(task.text()) * MIB // PIECE):
            data = piece(number)
            digest.update(data)
            stream.write(data)
    return digest.hexdigest()


def wait(task: StartTaskMessage) -> str:
    """Be the handler of an agent that is known and not there: nothing of it is run."""
    return task.text()
