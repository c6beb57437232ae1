"""Handlers that end their process, or change what belongs to all of it."""

import ctypes
import logging
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any


def handler(task: Any) -> str:
    """Note the run; a text that says so kills the process, each time in another way."""
    runs = Path(os.environ["RUNS"])
    with runs.open("a") as file:
        file.write(f"{task.text()} {os.getpid()}\n")
    if task.text() == "deadly":
        number = sum(line.startswith("deadly ") for line in runs.read_text().splitlines())
        if number == 1:
            ctypes.string_at(0)
        if number == 2:
            os.abort()
        os._exit(0)
    return f"done: {task.text()}"


def changes(task: Any) -> str:
    """Change the folder, the environment, the time limit of sockets, logging, signals; or answer like any other."""
    if task.text() != "change":
        return f"done: {task.text()}" * (20_000 if task.text() == "large" else 1)
    os.chdir("/")
    os.environ.clear()
    os.environ["TZ"] = "Pacific/Kiritimati"
    os.umask(0o777)
    socket.setdefaulttimeout(0.000001)
    logging.disable(logging.CRITICAL)
    logging.getLogger().handlers.clear()
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except ValueError:  # only the main thread may
        return f"changed, on {threading.current_thread().name}"
    return "changed, and the signal too"
