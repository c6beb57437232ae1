"""Say whether an advisory is known of a library in constraints-dev.txt: ask pip-audit once a day, never wait long.

Without pip-audit, or without its source of advisories, it is skipped, with one word why. `--start` begins to ask and
returns at once; without an argument it tells the verdict, for which it waits a few seconds at most.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "constraints-dev.txt"
KEPT = Path(os.environ.get("BLOCKS_VENV") or ROOT / ".venv") / "audit.json"
#: Seconds: a verdict is believed, or that there was none; one is waited for; pip-audit may take.
BELIEVED = 86_400
BELIEVED_OFFLINE = 600
PATIENCE = 5.0
LONGEST = 120.0


def verdict() -> dict[str, Any] | None:
    """Return what was found of this lock within the last day, if anything was."""
    try:
        kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_new = 0 <= time.time() - kept["at"] < (BELIEVED if kept["looked"] else BELIEVED_OFFLINE)
    return kept if is_new and kept["lock"] == _digest() else None


def start() -> None:
    """Begin to ask, beside whatever comes next."""
    if verdict() is None and _tool() is not None:
        quiet = subprocess.DEVNULL
        command = [sys.executable, __file__, "--ask"]
        subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)  # noqa: S603 - ourselves


def ask() -> None:
    """Ask pip-audit, and keep what it says."""
    command = [_tool() or "pip-audit", "-r", LOCK, "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    try:
        done = subprocess.run(  # noqa: S603 - a tool of this environment
            [*command, "--format", "json"], capture_output=True, text=True, check=False, timeout=LONGEST
        )
        libraries = json.loads(done.stdout)["dependencies"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        libraries = []
    found = [f"{one['name']} {one['version']}: {each['id']}" for one in libraries for each in one.get("vulns", [])]
    looked = sum("vulns" in one for one in libraries)
    draft = KEPT.with_suffix(".new")
    draft.write_text(json.dumps({"lock": _digest(), "at": time.time(), "looked": looked, "found": found}))
    draft.replace(KEPT)


def tell() -> int:
    """Print the verdict; return the exit code."""
    if _tool() is None and verdict() is None:
        print("audit skipped: uninstalled")
        return 0
    end = time.monotonic() + PATIENCE
    while (found := verdict()) is None and time.monotonic() < end:
        time.sleep(0.1)
    if found is None or not found["looked"]:
        print("audit skipped: " + ("unfinished" if found is None else "offline"))
        return 0
    for line in found["found"]:
        print(f"advisory: {line}")
    print(f"audit: {found['looked']} libraries, {len(found['found']) or 'no'} advisories")
    return 1 if found["found"] else 0


def _tool() -> str | None:
    return shutil.which("pip-audit") or shutil.which("pip-audit", path=Path(sys.executable).parent)


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


if __name__ == "__main__":
    acts = {"--start": start, "--ask": ask}
    sys.exit(acts[sys.argv[1]]() if len(sys.argv) > 1 else tell())
