"""Start programs, wait until they are ready, stop them by their id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from harness.measure import descendants, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

#: Seconds that a program gets to be ready, and to end.
READY = 60.0
END = 15.0


class NotStartedError(RuntimeError):
    """A program did not become ready; the text has the end of its log."""


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Tell whether somebody listens on the port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


@contextmanager
def running(
    args: Sequence[str],
    log: Path,
    *,
    is_ready: Callable[[], bool] = lambda: True,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user: str | None = None,
) -> Iterator[int]:
    """Run a program until the end of the block; yield its process id once it is ready."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env, cwd=folder, user=user
        )
    try:
        await_ready(process, is_ready, log)
        yield process.pid
    finally:
        stop(process)


def await_ready(process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path) -> None:
    """Wait until a program is ready, or say what its log says."""
    deadline = time.monotonic() + READY
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotStartedError(f"{process.args!r} did not start: {tail(log)}")
        time.sleep(0.005)


def tail(log: Path, size: int = 600) -> str:
    """Return the end of a log."""
    return log.read_text(encoding="utf-8", errors="replace")[-size:]


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """End a program; what it left below it is ended as well."""
    below = [(pid, started(pid)) for pid in descendants(process.pid)[1:]]
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END)
    for pid, since in below:
        with suppress(OSError):
            if since and started(pid) == since:
                os.kill(pid, signal.SIGKILL)
