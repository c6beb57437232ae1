"""A gigabyte through real processes: nobody holds more than pieces of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import World

FILES, SIZE = 41, 25 * 1024 * 1024
#: Bytes that a process may grow by while the gigabyte passes.
GROWTH = 32 * 1024 * 1024

CLIENT = """
    import hashlib, os, shutil, sys
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    from blocks_worker import TaskClient, file_part

    def grown():
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

    def there_and_back(number):
        path, saved = Path(f"up-{number}"), Path(f"down-{number}")
        with path.open("wb") as file:
            for piece in range(size // 65536):
                file.write(bytes([number, piece % 251]) * 32768)
        with client.send_message("back", [file_part(path)]) as session:
            assert session.wait_for_terminal(300).error is None, session.wait_for_terminal()
            (down,) = session.save_artifacts(saved)
        with path.open("rb") as sent, down.open("rb") as got:
            assert hashlib.file_digest(sent, "sha256").digest() == hashlib.file_digest(got, "sha256").digest()
        path.unlink()
        shutil.rmtree(saved)

    files, size = int(sys.argv[1]), int(sys.argv[2])
    with TaskClient.create("free", timeout=120) as client:
        there_and_back(200)
        print("warm", grown(), flush=True)
        sys.stdin.readline()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(there_and_back, range(files)))
        print("done", grown(), flush=True)
"""


def peak(process: subprocess.Popen[bytes]) -> int:
    """Return the most memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="the client's script uses hashlib.file_digest")
def test_a_gigabyte_leaves_memory_alone(world: World) -> None:
    """[R-40] 41 files of 25 MiB go up, are sent back and come down, four at a time, in 32 MiB of each process."""
    hub = world.hub()
    worker = world.worker("handlers:back", "--concurrency", "4", "--no-local")
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CLIENT), str(FILES), str(SIZE)],
        env=world.environment,
        cwd=world.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with client:
        assert client.stdin is not None
        assert client.stdout is not None
        warm = client.stdout.readline().split()
        assert warm[0] == b"warm"
        before = [peak(hub.process), peak(worker.process)]
        client.stdin.write(b"\n")
        client.stdin.flush()
        done = client.stdout.readline().split()
        assert done[:1] == [b"done"], worker.text()[-2000:]
        growth = [
            peak(hub.process) - before[0],
            peak(worker.process) - before[1],
            int(done[1]) - int(warm[1]),
        ]

    assert max(growth) < GROWTH, f"growth in MiB of hub, worker, client: {[each >> 20 for each in growth]}"
