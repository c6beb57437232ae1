"""A process of its own whose handler never returns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_process_whose_handler_hangs_ends_in_time(tmp_path: Path) -> None:
    """A handler that ignores everything delays the end by the drain, its grace and no more. [D7]"""
    program = tmp_path / "hang.py"
    program.write_text(
        f"import sys, threading; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from support_worker import LedgerInProcess, WorkerAtHub\n"
        "began = threading.Event()\n"
        "def hang(task):\n"
        "    began.set(); threading.Event().wait()\n"
        "with LedgerInProcess() as hub:\n"
        "    at = WorkerAtHub(hub, hang); at.worker.start(); at.worker.wait_ready(30)\n"
        "    task = hub.submit(); began.wait(30)\n"
        "    at.worker.stop(0.1)\n"
        "    print(at.worker.state, hub.row(task).state)\n"
    )
    done = subprocess.run([sys.executable, str(program)], timeout=90, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip()) == (0, "stopped pending")
