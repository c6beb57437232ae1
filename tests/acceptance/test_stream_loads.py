"""Streams of many events and of many bytes through real processes: all of it, in order, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from acceptance.storm import start_hub
from acceptance.stream_reader import WRITE, digest_of, size_of
from support import wait_until
from support_hub import Caller
from support_proxy import FaultProxy, cdm_through

from blocks_worker.state import StateFolder
from blocks_worker.streams.book import WINDOW
from blocks_worker.streams.reader import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acceptance.conftest import Daemon, World

MIB = 1024 * 1024
#: Bytes by which each process may grow over what it had after a first stream.
GROWTH = 64 * MIB
#: Seconds of one cut of the network.
CUT = 1.0

SHORT = {"events": 20_000, "bytes": 8 * MIB // WRITE}
LONG = {"events": 100_000, "bytes": 64 * MIB // WRITE}
WARM = {"events": 2_000, "bytes": 1 * MIB // WRITE}


@dataclass
class Site:
    """A hub, a worker and a reader, each a process, and a proxy between each of the latter two and the network."""

    world: World
    daemon: Daemon
    worker: int
    reader: subprocess.Popen[str]
    wires: list[FaultProxy]
    wish: dict[str, Any]

    def answer(self) -> dict[str, Any]:
        """Return the next line of the reader."""
        assert self.reader.stdout is not None
        line = self.reader.stdout.readline()
        assert line, f"the reader ended: {self.reader.wait()}"
        return dict(json.loads(line))

    def go(self) -> None:
        """Have the reader go on."""
        assert self.reader.stdin is not None
        self.reader.stdin.write("\n")
        self.reader.stdin.flush()

    def has(self, name: str) -> int:
        """Return how many bytes were noted as written, or as read."""
        path = self.world.folder / name
        return int((path.read_text() if path.exists() else "") or 0)

    def processes(self) -> dict[str, int]:
        """Return the process ids of the three."""
        return {"writer": self.worker, "hub": self.daemon.process.pid, "reader": self.reader.pid}

    def restart(self) -> None:
        """Kill the hub, and with it all that the local network had; start it again."""
        self.daemon.kill()
        self.daemon = start_hub(self.world)

    def cut(self) -> None:
        """Cut the network for a while."""
        for wire in self.wires:
            wire.cut()
        threading.Event().wait(CUT)
        for wire in self.wires:
            wire.heal()


@contextmanager
def site(world: World, kind: str, count: int, *, transport: str = "pubnub", **more: Any) -> Iterator[Site]:
    """Start everything, and read a first short stream."""
    hub = start_hub(world)
    state = StateFolder(world.folder / "state")
    address = state.discovered()
    assert address is not None
    caller = Caller(address, state.local_key())
    cdm = caller.ask("GET", "/api/v1/cdm")
    (world.folder / "cdm").mkdir()
    wish = {
        "kind": kind,
        "count": count,
        "warm": WARM[kind],
        **{name: str(world.folder / name) for name in ("written", "progress", "gate")},
        **more,
    }
    with FaultProxy(address.origin) as below, FaultProxy(address.origin) as above:
        ways = [cdm_through(cdm, world.folder / "cdm", network=wire) for wire in (below, above)]
        about = {"BLOCKS_API_KEY": caller.key, "BLOCKS_TRANSPORT": transport}
        worker = world.worker("handlers:flood", "--no-local", BLOCKS_CDM_URL=ways[0], **about)
        reader = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("stream_reader.py")), json.dumps(wish)],
            env={**world.environment, "BLOCKS_CDM_URL": ways[1], **about},
            cwd=world.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with reader:
            try:
                place = Site(world, hub, worker.process.pid, reader, [below, above], wish)
                assert place.answer()["digest"] == digest_of(kind, WARM[kind])
                yield place
            finally:
                reader.kill()
                worker.terminate()
                caller.pool.clear()


def forget_peak(pid: int) -> int:
    """Let the highest memory of a process be what it has now; return that."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def peak(pid: int) -> int:
    """Return the most memory that a process had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def flow(world: World, kind: str, count: int, *, cuts: int = 0, **more: Any) -> str:
    """Read one stream with so many cuts on its way; check what came and what memory it took, and tell of it."""
    with site(world, kind, count, **more) as place:
        before = {name: forget_peak(pid) for name, pid in place.processes().items()}
        begun = time.monotonic()
        place.go()
        size = size_of(kind, count)
        for number in range(cuts):
            goal = size * (number + 1) // (cuts + 1)
            wait_until(lambda goal=goal: place.has("progress") >= goal, 60, f"{goal} bytes")  # type: ignore[misc]
            place.cut()
        came = place.answer()
        seconds = time.monotonic() - begun
        grown = {name: peak(pid) - before[name] for name, pid in place.processes().items()}
        place.go()

    assert (came["state"], came["size"]) == ("completed", size), came
    assert came["digest"] == digest_of(kind, count)
    assert not {"gap", "overflow"} & set(came["told"]), came["told"]
    assert came["told"].count("reconnected") >= cuts, came["told"]
    assert max(grown.values()) < GROWTH, grown
    mib = {name: f"{value / MIB:.0f}" for name, value in grown.items()}
    return f"{count} {kind}, {cuts} cuts: {seconds:.1f} s, {size / MIB / seconds:.1f} MiB/s, grown by MiB {mib}"


@pytest.mark.parametrize("kind", ["events", "bytes"])
def test_a_stream_arrives_whole_and_in_order(world: World, kind: str) -> None:
    """Through one cut of the network nothing is lost, doubled or turned, in little memory. [R-17] [R-30] [R-41]"""
    flow(world, kind, SHORT[kind], cuts=1)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cuts", [0, 3])
@pytest.mark.parametrize("kind", ["events", "bytes"])
def test_a_long_stream_arrives_whole_and_in_order(
    world: World, capsys: pytest.CaptureFixture[str], kind: str, cuts: int
) -> None:
    """The same for 100,000 events and 64 MiB of bytes, with no cut and with three. [R-17] [R-30] [R-41]"""
    told = flow(world, kind, LONG[kind], cuts=cuts)
    with capsys.disabled():
        print(f"\n{told}")  # noqa: T201 - the figures are what a long test is run for


@pytest.mark.parametrize(
    ("kind", "transport"),
    [("events", "pubnub"), ("bytes", "hublink"), pytest.param("bytes", "pubnub", marks=pytest.mark.long)],
)
def test_a_stream_outlives_its_network(world: World, kind: str, transport: str) -> None:
    """Kill -9 of the hub takes all that the network had; the writer has the rest, and nothing is lost. [R-17] [R-30]"""
    # Over a link all is read at once, if one does not read slowly.
    count = SHORT[kind]
    slow = size_of(kind, count) if transport == "hublink" else 0
    with site(world, kind, count, transport=transport, slow=slow) as place:
        place.go()
        wait_until(lambda: place.has("progress") >= size_of(kind, count) // 3, 60, "a third")
        place.restart()
        came = place.answer()
        place.go()

    assert (came["state"], came["size"]) == ("completed", size_of(kind, count)), came
    assert came["digest"] == digest_of(kind, count)
    assert not {"gap", "overflow"} & set(came["told"]), came["told"]


@pytest.mark.parametrize(
    ("total", "rest"), [(12, 1.0), pytest.param(32, 25.0, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
def test_a_slow_reader_slows_the_writer(world: World, total: int, rest: float) -> None:
    """While its reader rests, however long, a writer stops a buffer ahead of it; then all goes on. [R-37] [R-41]"""
    count = total * MIB // WRITE
    with site(world, "bytes", count, rests_at=MIB) as place:
        place.go()
        # As long as the reader rests; one that is only held up goes on, and is looked at again.
        wait_until(lambda: _stands(place, rest), 90 + rest, "the writer to wait")
        ahead = place.has("written")
        # In base64 the content of a frame is four thirds of what was written.
        assert 2 * MIB < ahead <= MIB + BUFFER_BYTES + 2 * WINDOW
        (world.folder / "gate").touch()
        came = place.answer()
        place.go()

    assert (came["size"], came["digest"]) == (count * WRITE, digest_of("bytes", count))
    assert came["told"] == []


@pytest.mark.parametrize(
    ("total", "slow"), [(48, 16), pytest.param(1024, 256, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_a_slow_reader_takes_no_memory(world: World, capsys: pytest.CaptureFixture[str], total: int, slow: int) -> None:
    """It rests after each 64 KiB, which holds up a fast writer over a link; nobody grows meanwhile. [R-37] [R-41]"""
    told = flow(world, "bytes", total * MIB // WRITE, transport="hublink", slow=slow * MIB)
    with capsys.disabled():
        print(f"\n{slow} of {total} MiB slowly, {told}")  # noqa: T201 - the figures are what it is run for


def _stands(place: Site, seconds: float) -> bool:
    """Tell whether the writer is well ahead of its reader, and wrote nothing more for so long."""
    before = place.has("written")
    threading.Event().wait(seconds)
    return before > 2 * MIB and place.has("written") == before
