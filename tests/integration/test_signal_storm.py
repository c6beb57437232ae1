"""Signals as fast as they can be sent, to a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

_STORM = """
import logging, threading
from blocks_worker.cli.signals import Signals
from blocks_worker.concurrency import Clock
from blocks_worker.observability.stacks import stacks_on_signal
heard = []
class Patient(Clock):
    # Time stands still until what counted was printed: the third one ends the process, whatever waits to be said.
    def monotonic(self):
        return super().monotonic() if len(heard) == signals.count else signals._counted_at
signals = Signals(Patient())
signals.install()
stacks_on_signal(signals.want_stacks)
logging.basicConfig(filename="/dev/null", level=logging.INFO)
def work():
    while True:
        logging.info("work")
        signals.heard.put(("work", None))
        threading.Event().wait(0.001)
threading.Thread(target=work, daemon=True).start()
print("begun", flush=True)
while True:
    what, name = signals.heard.get()
    logging.info("heard %s", what)
    if what == "signal":
        print(name, flush=True)
        heard.append(name)
"""


def test_a_storm_of_signals_holds_nothing_up() -> None:
    """[D8] Two thousand signals a second, whatever they interrupt: each that counts is heard, the third ends it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _STORM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    pause, end = threading.Event(), time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        process.send_signal(signal.SIGTERM)
        pause.wait(0.0005)
    said, errors = process.communicate(timeout=60)

    assert (process.returncode, said) == (130, "SIGTERM\nSIGTERM\n")
    assert errors == "blocks-run: SIGTERM received a third time: ended at once\n"
