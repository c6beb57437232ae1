"""Give each peer a virtual environment of its own, below a cache folder outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: For the plot alone.
PLOT = ("matplotlib>=3.8,<4",)


class MissingError(RuntimeError):
    """Something that an entry needs is not to be had on this machine; the text says what."""


def cache() -> Path:
    """Return the folder of the environments: `BLOCKS_BENCH_CACHE`, else one below the user's cache."""
    named = os.environ.get("BLOCKS_BENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blocks-worker-bench"


def interpreter(name: str, packages: Sequence[str]) -> Path:
    """Return the Python of an environment with these packages, made when it is missing or had others.

    Raises:
        MissingError: they do not install.
    """
    if not packages:
        return Path(sys.executable)
    folder = cache() / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join([*packages, sys.version])
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"Installing {', '.join(packages)} into {folder}", file=sys.stderr)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for step in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, *packages]):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingError(f"{name} does not install: {(done.stderr or done.stdout).strip()[-300:]}")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the version of each package in an environment."""
    names = [package.partition("[")[0].split(">")[0].split("=")[0] for package in packages]
    code = "import sys; from importlib.metadata import version as v; print(*[v(n) for n in sys.argv[1:]])"
    done = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.split(), strict=True))
