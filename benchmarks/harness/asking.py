"""Talk to the client process of an entry: one line out, one line of JSON back."""

from __future__ import annotations

import json
import select
import subprocess
from typing import TYPE_CHECKING, Any

from harness.processes import stop, tail

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class FailedError(RuntimeError):
    """A run did not come to its end; the text says why."""


class Asked:
    """The client of one entry, a process of its own."""

    def __init__(self, python: Path, peer: str, env: Mapping[str, str], folder: Path) -> None:
        self._log = folder / "client.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-m", "peers.client", peer],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                cwd=folder,
                text=True,
            )
        self.pid = self._process.pid
        try:
            #: The name of its call for many tasks; empty: it has none.
            self.batch = str(self._answer(60)["batch"])
        except BaseException:
            self.close()
            raise

    def ask(self, name: str, count: int, timeout: float = 180) -> dict[str, Any]:
        """Have a workload run; return what came of it.

        Raises:
            FailedError: it raised, or gave no answer in time.
        """
        self.begin(name, count)
        return self.end(timeout)

    def begin(self, name: str, count: int) -> None:
        """Have a workload start."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name} {count}\n")
        self._process.stdin.flush()

    def end(self, timeout: float = 180) -> dict[str, Any]:
        """Return what came of the workload that was begun."""
        answer = self._answer(timeout)
        if "error" in answer:
            raise FailedError(str(answer["error"]))
        return answer

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise FailedError(f"the client gave no answer in {timeout:.0f} s: {tail(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it: it closes itself when nobody asks any more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            stop(self._process)
        self._process.stdout.close()
