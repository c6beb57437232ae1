"""What is said of a process: it lives, it is gone, or nobody can tell from here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
    """Who cannot look does not know: a process that lives must not be taken for dead."""
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


_HIDDEN = """
import os, sys
from blocks_worker.processes import is_alive, this_host
from blocks_worker.protocol.leases import Process
other = Process(host=this_host(), pid=int(sys.argv[1]), started="1")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(is_alive(other))
"""


def test_a_process_that_is_hidden_is_not_called_dead() -> None:
    """A service that sees its own processes only cannot tell of others, dead or alive."""
    script = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    said = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", _HIDDEN, str(os.getpid())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if said.returncode:
        pytest.skip("only root may hide processes")

    assert said.stdout == "None\n"
