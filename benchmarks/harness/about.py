"""Say where, when and with what was measured."""

from __future__ import annotations

import os
import platform
import shlex
import sqlite3
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path


def about(root: Path, rounds: int, versions: dict[str, str]) -> dict[str, object]:
    """Return what a reader needs to judge the figures or to repeat them."""
    return {
        "command": shlex.join(["./scripts/bench", *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(root),
        "machine": processor(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rounds": rounds,
        "versions": versions,
    }


def commit(root: Path) -> str:
    """Return the commit that was measured, with a plus when the folder differs from it."""
    asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """Return what the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def system_versions(programs: dict[str, str]) -> dict[str, str]:
    """Return the versions of programs of the system, by name; those that are not there are left out."""
    found = {}
    for name, path in programs.items():
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        words = done.stdout.replace("v=", "").split()
        found[name] = next((word for word in words if word[0].isdigit()), "unknown")
    return found
