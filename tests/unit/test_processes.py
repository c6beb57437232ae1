"""What is said of a process: it lives, it is gone, or nobody can tell from here."""

from __future__ import annotations

import subprocess
import sys

from blocks_worker.processes import is_alive, this_process
from blocks_worker.protocol.leases import Process

_OUT_OF_DESCRIPTORS = """
import os, resource
from blocks_worker.processes import is_alive, this_process
from blocks_worker.protocol.leases import Process
me = this_process()
resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(is_alive(me))
"""


def test_without_descriptors_nobody_is_called_dead() -> None:
    """Who cannot look does not know: a process that lives must not be taken for dead. [A3]"""
    said = subprocess.run([sys.executable, "-c", _OUT_OF_DESCRIPTORS], capture_output=True, text=True, check=True)

    assert said.stdout == "None\n"


def test_a_process_that_is_gone_is_dead() -> None:
    """Ended and waited for, ended and not waited for, or another one under its number: none of them lives."""
    host = this_process().host
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert is_alive(Process(host=host, pid=child.pid, started="1")) is False
        child.kill()
        child.wait()
        assert is_alive(Process(host=host, pid=child.pid, started="1")) is False
