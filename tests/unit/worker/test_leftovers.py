"""What dead processes left is said again until the hub has answered all of it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.controlplane.api import ItemResult
from blocks_worker.errors import HubUnavailableError, RpcError
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.leases import LateReport, Outcome, Report, ReportAnswer
from blocks_worker.worker.leftovers import HEAD_START, KEPT_MS, Leftovers
from blocks_worker.worker.spool import SpoolPlace
from blocks_worker.worker.spool_file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Hub:
    """A hub's end of the line: each call takes the next of `script`: statuses to answer, or an error to raise."""

    def __init__(self, *script: list[int] | Exception) -> None:
        self._script = list(script)
        self.heard: list[list[str]] = []
        self.exhausted = threading.Event()

    def __call__(self, items: Sequence[LateReport], _timeout: float) -> list[ItemResult[ReportAnswer]]:
        """Answer a batch."""
        self.heard.append([item.report.task_id for item in items])
        turn = self._script.pop(0) if self._script else [200] * len(items)
        if not self._script:
            self.exhausted.set()
        if isinstance(turn, Exception):
            raise turn
        return [ItemResult(status, None, None) for status in turn]


@pytest.fixture
def place(tmp_path: Path) -> SpoolPlace:
    """Give a place."""
    return SpoolPlace.of(tmp_path / "spool", hub="sub-c", api_key="bk", always=False)


def leave(place: SpoolPlace, *tasks: str, life: str = "life") -> Path:
    """Leave a file with an outcome of each task."""
    file = SpoolFile(place.file(life))
    outcome = Outcome(state="completed", last_n=0, digest="d" * 64)
    reports = [Report(task_id=task, epoch=1, lease="l", outcome=outcome) for task in tasks]
    file.append([encode(LateReport(incarnation=life, report=report)) for report in reports])
    file.close()
    return place.file(life)


def replayed(place: SpoolPlace, hub: Hub, head_start: float = 30.0) -> bool:
    """Replay; tell whether all was said within the head start, which is long unless it is to end."""
    leftovers = Leftovers(place, send=hub, clock=Clock(), entropy=Entropy(), head_start=head_start)
    leftovers.start()
    done = leftovers.wait()
    assert leftovers.stop(Deadline(5))
    return done


def test_nothing_left_is_no_wait(place: SpoolPlace) -> None:
    """A first start asks nobody."""
    hub = Hub()

    assert replayed(place, hub)
    assert hub.heard == []


def test_every_answer_settles_an_outcome(place: SpoolPlace) -> None:
    """Recorded, fenced, over or refused: the hub has decided, and the file goes."""
    leave(place, "a", "b", "c", "d")
    hub = Hub([200, 409, 410, 400])

    assert replayed(place, hub)
    assert (hub.heard, place.files()) == ([["a", "b", "c", "d"]], [])


def test_who_got_no_answer_is_said_again(place: SpoolPlace) -> None:
    """A hub that is away, starting or full is asked again; only what it did not take is repeated."""
    leave(place, "a", "b")
    hub = Hub(HubUnavailableError("h", "away"), RpcError("starting", status=503), [200, 507], [200])

    assert replayed(place, hub)
    assert hub.heard == [["a", "b"], ["a", "b"], ["a", "b"], ["b"]]


def test_a_hub_that_stays_away_holds_up_the_start_for_two_seconds_only(place: SpoolPlace) -> None:
    """After the head start the rest goes on beside; what is unsaid at the end stays for the next start."""
    path = leave(place, "a")
    hub = Hub(*[HubUnavailableError("h", "away")] * 1000)

    assert HEAD_START == 2.0
    assert not replayed(place, hub, head_start=0.3)
    assert path.exists()


def test_a_refused_key_keeps_the_file(place: SpoolPlace) -> None:
    """What this process may not say stays for one that may."""
    path = leave(place, "a")

    assert replayed(place, Hub(RpcError("who are you", status=401)))
    assert path.exists()


def test_one_report_that_is_refused_spoils_no_other(place: SpoolPlace) -> None:
    """A request that is too large for the hub is said in halves; what is refused alone is over."""
    leave(place, "a", "b", "c")
    too_large = RpcError("too large", status=413)
    hub = Hub(too_large, [200], too_large, too_large, [200])

    assert replayed(place, hub)
    assert (hub.heard, place.files()) == ([["a", "b", "c"], ["a"], ["b", "c"], ["b"], ["c"]], [])


def test_files_of_other_hubs_and_of_living_processes_are_left_alone(place: SpoolPlace, tmp_path: Path) -> None:
    """Only files of the same hub and key count, and only those whose writer is dead."""
    other = leave(SpoolPlace.of(tmp_path / "spool", hub="another", api_key="bk", always=False), "a")
    living = SpoolFile(place.file("living"))
    living.append([b"{}"])
    hub = Hub()

    assert replayed(place, hub)
    assert (hub.heard, other.exists(), place.file("living").exists()) == ([], True, True)
    living.close()


def test_a_spoilt_line_costs_only_itself(place: SpoolPlace) -> None:
    """A file that somebody damaged gives what can still be read."""
    path = leave(place, "a")
    path.write_bytes(b"junk\n" + path.read_bytes())
    hub = Hub()

    assert replayed(place, hub)
    assert hub.heard == [["a"]]


def test_an_old_file_is_forgotten(place: SpoolPlace) -> None:
    """The hub forgets tasks after a week, and so does the spool, whoever wrote it."""
    path = leave(place, "a")
    week_ago = path.stat().st_mtime - KEPT_MS / 1000 - 60
    os.utime(path, (week_ago, week_ago))
    hub = Hub()

    assert replayed(place, hub)
    assert (hub.heard, path.exists()) == ([], False)


def test_much_goes_in_several_requests(place: SpoolPlace) -> None:
    """No request is larger than the hub takes, and the order stays."""
    tasks = [f"t{number}" for number in range(600)]
    leave(place, *tasks)
    hub = Hub()

    assert replayed(place, hub)
    assert [task for batch in hub.heard for task in batch] == tasks
    assert max(map(len, hub.heard)) == 256
