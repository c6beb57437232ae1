"""The wall clock of single processes, moved while they run, by a small library that is built here and preloaded."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("support_clock.c")


class Clocks:
    """Build the library once; give each process its environment, and move its clock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = folder / "clock.so"
        compiler = shutil.which("cc")
        #: Why no clock can be moved here, if so.
        self.missing = "there is no C compiler (cc)" if compiler is None else ""
        if compiler is not None:
            done = subprocess.run(
                [compiler, "-O1", "-shared", "-fPIC", "-o", str(self._library), str(_SOURCE), "-ldl"],
                capture_output=True,
                text=True,
                check=False,
            )
            self.missing = done.stderr.strip()

    def environment(self, name: str) -> dict[str, str]:
        """Return what the process has to be started with; nothing where clocks cannot be moved."""
        if self.missing:
            return {}
        if not self._file(name).exists():
            self.move(name, 0.0)
        return {"LD_PRELOAD": str(self._library), "CLOCK_OFFSET": str(self._file(name))}

    def move(self, name: str, seconds: float) -> None:
        """Set by how much the clock of that process is wrong from now on."""
        with self._file(name).open("r+b" if self._file(name).exists() else "wb", buffering=0) as file:
            file.write(struct.pack("d", seconds))

    def _file(self, name: str) -> Path:
        return self._folder / f"clock-{name}"
