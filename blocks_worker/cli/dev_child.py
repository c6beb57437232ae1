"""The worker of `blocks dev`: `blocks-run`, which drains when the process that started it is gone."""

from __future__ import annotations

import os
import signal

from blocks_worker.cli.begin import main as run_worker
from blocks_worker.concurrency import ServiceThread


def main() -> None:
    """Run `blocks-run`, with the other end of a pipe as standard input."""
    # A daemon: it waits for bytes that never come.
    ServiceThread("parent-watch", _end_with_parent, daemon=True).start()
    run_worker()


def _end_with_parent() -> None:
    # Not by the stream: its lock would be held when the process ends.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
