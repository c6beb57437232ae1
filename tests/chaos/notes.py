"""Notes of what happened: a line of JSON each, appended in one write, so that whoever is killed leaves no half of one.

`at` is the monotonic clock of the machine: all processes share it, and no jump of the wall clock moves it.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Notes:
    """Append to one file; any number of processes and threads may."""

    def __init__(self, path: Path | str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, word: str, **what: Any) -> None:
        """Append one note."""
        line = json.dumps({"at": round(time.monotonic(), 6), "pid": os.getpid(), "word": word, **what})
        os.write(self._file, f"{line}\n".encode())

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the notes so far, oldest first; none when nobody has noted anything."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]
