"""What is left behind in the C library's allocator: pools of memory for threads, and free pages in them."""

import os
import platform
import subprocess
import sys

import pytest

#: Sixteen threads that each hold memory of the allocator at the same time; how many pools it has then.
PROGRAM = """
import ctypes, re, sys, tempfile, threading
from blocks_worker.cli.allocator import few_arenas
from blocks_worker.config import environment

libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fopen.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
libc.fclose.argtypes = (ctypes.c_void_p,)
libc.malloc_info.argtypes = (ctypes.c_int, ctypes.c_void_p)

def hold():
    kept = bytearray(10_000)
    together.wait()

if sys.argv[1] == "few":
    few_arenas(environment())
together = threading.Barrier(16)
threads = [threading.Thread(target=hold) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.NamedTemporaryFile() as told:
    file = libc.fopen(told.name.encode(), b"w")
    assert libc.malloc_info(0, file) == 0
    libc.fclose(file)
    print(len(re.findall(rb"<heap ", told.read())))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such pools")


def pools(how: str, **more: str) -> int:
    """Return how many pools of memory sixteen threads have made."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, env={**os.environ, **more}
    )
    return int(done.stdout)


def test_the_threads_of_a_daemon_share_few_pools() -> None:
    """Sixteen slots share two pools of memory, where they would have one each. [C10]"""
    assert (pools("few"), pools("as it is") > 2) == (2, True)


def test_who_sets_their_number_has_it() -> None:
    """A number of pools in the environment stays as it is."""
    assert pools("few", MALLOC_ARENA_MAX="5") == 5


#: A flood of which little stays, here and there; how many MiB go back.
FLOOD = """
from blocks_worker.cli.allocator import give_back
from blocks_worker.observability.usage import resident_bytes

flood = [bytes(60_000) for _ in range(1_000)]
flood = flood[::100]
before = resident_bytes()
assert give_back()
print((before - resident_bytes()) >> 20)
"""


def test_what_a_flood_left_free_is_given_back() -> None:
    """Pages between what stays go back to the system, 20 MiB of 60 at least. [C10]"""
    done = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, check=True)

    assert int(done.stdout) > 20
