"""What the benchmark harness asks of the product alone: wrong events, bytes and sessions are seen, ledgers filled."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from harness.asking import FailedError
from harness.figures import Run
from harness.filling import fill, finished
from harness.growth import PLAN, QUICK, SEED, right
from harness.growth_table import BEGIN, compared, growth_table, put_growth
from harness.measure import forget_peaks, peak_of
from harness.one_run import ROOT, Amounts
from harness.own import Own
from harness.table import END
from peers.client import workloads_of
from peers.lines import MIB, PIECE, line, piece
from peers.loads import CHUNK, Workloads, differing, ended_well

from blocks_worker.artifacts import inline_artifact
from blocks_worker.hub.store.schema import creation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self


class _Session:
    """A session of a task that told these events, or wrote these bytes."""

    def __init__(self, told: list[Any] | None = None, pieces: list[bytes] | None = None, written: str = "") -> None:
        self._told, self._pieces, self._written = told or [], pieces or [], written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Any]:
        return iter(self._told)

    def wait_for_stream(self, timeout: float) -> Any:
        assert timeout
        return SimpleNamespace(open=lambda: SimpleNamespace(bytes=lambda: iter(self._pieces)))

    def text(self, timeout: float) -> str:
        assert timeout
        return self._written


def _workloads(session: _Session) -> Workloads:
    product: Any = SimpleNamespace(send_message=lambda *_args, **_options: session)
    return Workloads(SimpleNamespace(close=lambda: None), product)  # type: ignore[arg-type]


def _event(text: str) -> Any:
    return SimpleNamespace(type="artifact", artifact_ref=inline_artifact(text.encode(), mime_type="text/plain"))


def _end(**changed: Any) -> Any:
    return SimpleNamespace(
        **{"type": "terminal", "artifact_ref": None, "state": "completed", "last_n": 4, "gap": False, **changed}
    )


def _lines(*numbers: int) -> list[Any]:
    return [_event(line(number)) for number in numbers]


@pytest.mark.parametrize(
    ("told", "bad"),
    [
        ([*_lines(0, 1, 2), _end()], 0),
        ([*_lines(0, 2, 1), _end()], 2),
        ([*_lines(0, 1), _end()], 1),
        ([*_lines(0, 1, 2, 2), _end()], 1),
        ([*_lines(0, 1, 2), _end(gap=True)], 1),
        ([*_lines(0, 1, 2), _end(state="failed")], 1),
        ([*_lines(0, 1, 2), _end(last_n=3)], 1),
        (_lines(0, 1, 2), 1),
    ],
)
def test_events_are_compared_by_count_and_order(told: list[Any], bad: int) -> None:
    """What is missing, doubled or in another order is counted, and so is an end that is none."""
    assert _workloads(_Session(told)).events(3)["wrong"] == bad


def test_differences_count_what_is_missing_and_what_is_too_much() -> None:
    """No list is cut to the length of the other."""
    assert differing(["a", "b"], ["a", "b"]) == 0
    assert differing(["a", "b"], []) == 2
    assert differing([], ["a"]) == 1
    assert not ended_well([], 1)


def test_bytes_of_a_stream_are_compared_by_size_and_digest() -> None:
    """A lost piece, two that changed places and bytes beyond the size are wrong."""
    pieces = [piece(number) for number in range(MIB // PIECE)]
    written = hashlib.sha256(b"".join(pieces)).hexdigest()

    def bad(came: list[bytes], digest: str = written) -> int:
        return int(_workloads(_Session(pieces=came, written=digest)).stream(1)["wrong"])

    assert bad(pieces) == 0
    assert bad(pieces[1:]) == 1
    assert bad([pieces[1], pieces[0], *pieces[2:]]) == 1
    assert bad(pieces * 2, hashlib.sha256(b"".join(pieces * 2)).hexdigest()) == 1


class _Liar:
    """A client that spoils one result of each call for many."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def submit_many(self, texts: list[str]) -> list[str]:
        self.calls.append(len(texts))
        return ["something else", *texts[1:]]

    def result(self, handle: str) -> str:
        return handle

    def close(self) -> None: ...


def test_many_tasks_go_by_the_thousand_and_each_result_is_compared() -> None:
    """All are sent, in calls of a thousand, and what is wrong in any call is counted."""
    liar: Any = _Liar()

    assert Workloads(liar, liar).memory(2 * CHUNK + 5)["wrong"] == 3
    assert liar.calls == [CHUNK, CHUNK, 5]


def test_a_session_that_does_not_wait_any_more_is_counted() -> None:
    """Open sessions are those of tasks that wait; fewer than asked for is wrong."""
    liar: Any = _Liar()
    workloads = Workloads(liar, liar)
    sessions = [("pending", False), ("pending", True), ("failed", False)]
    workloads._held = [SimpleNamespace(state=state, is_closed=is_closed) for state, is_closed in sessions]  # type: ignore[misc]

    assert workloads.held(3)["wrong"] == 2
    assert workloads.held(4)["wrong"] == 3


def test_a_client_may_choose_its_workloads() -> None:
    """Who has some of its own is asked for them; others get those that fit their calls."""
    assert workloads_of(SimpleNamespace(workloads=lambda: "its own")) == "its own"
    assert type(workloads_of(_Liar())).__name__ == "Workloads"


def test_a_workload_may_have_less_over_one_transport() -> None:
    """The size is that of the transport where it has one of its own, else that of all."""
    amounts = Amounts(stream=64, stream_pubnub=8, memory=20_000, memory_pubnub=5000)

    assert [amounts.of("stream", each) for each in ("hublink", "pubnub", "")] == [64, 8, 64]
    assert amounts.of("memory", "pubnub") == 5000
    assert amounts.of("events", "pubnub") == amounts.events


def test_the_most_memory_is_that_since_it_was_forgotten() -> None:
    """What a process had for a moment counts, though it gave it back; what it had before does not."""
    child = "for _ in range(2):\n    bytearray(64 * 2**20)\n    print(1, flush=True)\n    input()"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        forget_peaks({"it": process.pid, "gone": 2**22 - 1})
        small = peak_of(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()

        assert peak_of(process.pid) - small > 32
        assert small < 64
        process.communicate("\n")
    assert peak_of(process.pid) == 0


def test_memory_is_looked_at_before_and_after() -> None:
    """The workload's own figures stay, with the memory of each process beside them."""
    asked = []

    def ask(name: str, count: int, pids: dict[str, int]) -> dict[str, Any]:
        asked.append((name, count, sorted(pids)))
        return {"count": count, "wrong": 0}

    own: Any = Own(ask, None, {}, None)  # type: ignore[arg-type]
    said = own.memory(7, {"client": os.getpid()})

    assert asked == [("memory", 7, ["client"])]
    assert said["count"] == 7
    assert said["rss_before_mib"]["client"] > 1
    assert said["rss_mib"]["client"] > 1


def test_a_point_with_wrong_results_has_no_figure() -> None:
    """What came back wrong is no rate, and says how much it was."""
    assert right({"wrong": 0, "seconds": 1}) == {"wrong": 0, "seconds": 1}
    with pytest.raises(FailedError, match="2 results were wrong or lost"):
        right({"wrong": 2})


def _point(number: int, curve: str, size: int, seconds: float, others: float = 0.01) -> dict[str, Any]:
    roles = {"client": 1.0, "broker": 2.0, "worker": 3.0}
    return {
        "round": number, "curve": curve, "size": size, "count": 100, "seconds": seconds, "others": others,
        "wrong": 0, "cpu_ms": roles, "rss_mib": roles, "start_s": 0.5,
    }  # fmt: skip


def test_a_size_is_compared_with_the_first_of_its_own_round() -> None:
    """Not with that of another round, and the pair is as clean as the less clean of both."""
    runs = [
        _point(1, "open", 1, 1.0, 0.3), _point(1, "open", 10, 2.0), _point(2, "open", 1, 0.5),
        _point(2, "open", 10, 2.0), _point(3, "open", 10, 9.0),
    ]  # fmt: skip

    assert compared(runs, 10, 1) == [Run(0.5, 0.3), Run(0.25, 0.01)]
    assert [run.value for run in compared(runs, 1, 1)] == [1, 1]


def test_the_table_of_growth_has_all_sizes_and_names_what_failed() -> None:
    """A point that failed has no figure and a line of its own; what was never measured shows dashes."""
    about = {"command": "c", "date": "d", "commit": "abc", "machine": "m", "cores": 2, "kernel": "k", "python": "3"}
    runs = [_point(number, "open", size, 1.0 * size) for number in (1, 2, 3) for size in (1, 4)]
    runs.append({"round": 1, "curve": "instances", "size": 8, "error": "2 results were wrong or lost"})
    report = {
        "about": {**about, "sqlite": "3", "rounds": 3, "versions": {}},
        "count": 100,
        "sizes": {"open": (1, 4), "instances": (8,)},
        "runs": runs,
    }
    text = growth_table(report)

    assert (
        "| open sessions of the client | 1 | 100 (100\N{EN DASH}100) | 1.00 (1.00\N{EN DASH}1.00) | 1.00 + 2.00" in text
    )
    assert "| open sessions of the client | 4 | 25.0 (25.0\N{EN DASH}25.0) | 0.25 (0.25\N{EN DASH}0.25) |" in text
    assert "| instances of the agent | 8 |" + " \N{EN DASH} |" * 5 in text
    assert "- instances of the agent, 8, failed in round 1: 2 results were wrong or lost" in text


def test_the_table_of_growth_has_a_place_of_its_own() -> None:
    """The page has both places, and what is written into one leaves the other."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    grown = put_growth(page, "what grew")

    assert grown.replace(f"{BEGIN}\n\nwhat grew\n\n{END}", "") == page.replace(
        page[page.index(BEGIN) : page.index(END, page.index(BEGIN)) + len(END)], ""
    )


def test_every_curve_begins_where_it_can() -> None:
    """The first size is the smallest, and no ledger is to be filled with fewer than it was made with."""
    for plan in (PLAN, QUICK):
        assert set(plan.sizes) == {"finished", "open", "instances"}
        assert all(list(sizes) == sorted(sizes) and len(sizes) > 1 for sizes in plan.sizes.values())
        assert plan.sizes["finished"][0] >= SEED


TASK = "01a2021a-3e4a-76f6-8cfb-d33c973a67e1"
#: Its time, in unix milliseconds.
AT = 1_795_331_604_048
WEEK = 7 * 86_400_000


def _ledger(file: Path, state: str = "COMPLETED") -> None:
    """Make a ledger as the product does, with one task that ended and its agent."""
    ended = AT + 40
    values = {"id": TASK, "owner": "local", "agent": "echo", "state": state, "ended": ended, "purge_at": ended + WEEK}
    times = {"leased_at": AT + 10, "updated": ended, "created": AT, "rank": AT}
    with closing(sqlite3.connect(file)) as ledger:
        ledger.execute("PRAGMA journal_mode=WAL")
        for statement in creation():
            ledger.execute(statement)
        _insert(ledger, "task", {**values, **times})
        _insert(ledger, "task_input", {"task": TASK, "start": b"twelve bytes"})
        for n in (1, 2):
            _insert(ledger, "event", {"seq": n, "task": TASK, "n": n, "body": f'{{"taskId":"{TASK}"}}'.encode()})
        _insert(ledger, "agent", {"name": "echo", "owner": "local"})
        _insert(ledger, "meta", {"key": "published_seq", "value": "2"})
        ledger.commit()


def _insert(ledger: sqlite3.Connection, table: str, values: dict[str, Any]) -> None:
    """Insert a row; what must be there and is not named is 0."""
    asked = [(row[1], row[3] and row[4] is None) for row in ledger.execute(f"PRAGMA table_info({table})")]
    row = {name: values.get(name, 0) for name, is_needed in asked if is_needed or name in values}
    ledger.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])  # noqa: S608 - our own names


def test_a_ledger_is_filled_with_whole_tasks(tmp_path: Path) -> None:
    """Each copy has its input and events under an id of its own; nothing is published again, bytes are counted."""
    file = tmp_path / "hub.sqlite3"
    _ledger(file)
    fill(file, 400)

    assert finished(file) == 400
    with closing(sqlite3.connect(file)) as ledger:
        ids = [row[0] for row in ledger.execute("SELECT id FROM task")]
        assert all(
            re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", each) for each in ids
        )
        events = ledger.execute("SELECT task, count(*), min(instr(body, task)) FROM event GROUP BY task").fetchall()
        assert sorted(row[0] for row in events) == sorted(ids)
        assert {row[1:] for row in events} == {(2, 12)}
        assert ledger.execute("SELECT count(*) FROM task JOIN task_input ON task = id").fetchone() == (400,)
        assert ledger.execute("SELECT value FROM meta WHERE key = 'published_seq'").fetchone() == ("800",)
        assert ledger.execute("SELECT sum(input_bytes) FROM usage").fetchone() == (400 * 12,)
        assert ledger.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_filled_ledger_has_many_owners_and_agents_and_a_week_of_tasks(tmp_path: Path) -> None:
    """About half the tasks are of the agent that is measured, and the copies are older, each as long as the first."""
    file = tmp_path / "hub.sqlite3"
    _ledger(file)
    fill(file, 400)

    with closing(sqlite3.connect(file)) as ledger:
        spread = dict(ledger.execute("SELECT agent, count(*) FROM task GROUP BY agent"))
        assert 140 < spread.pop("echo") < 260
        assert len(spread) > 20
        assert set(spread) <= {row[0] for row in ledger.execute("SELECT name FROM agent")}
        assert ledger.execute("SELECT count(DISTINCT owner) FROM task").fetchone()[0] > 10
        assert ledger.execute("SELECT DISTINCT ended - created, purge_at - ended FROM task").fetchall() == [(40, WEEK)]
        oldest, newest = ledger.execute("SELECT min(created), max(created) FROM task").fetchone()
        assert newest - oldest > 5 * 86_400_000
        assert ledger.execute("SELECT max(created) FROM task WHERE id != ?", [TASK]).fetchone()[0] < newest


def test_a_ledger_without_a_finished_task_is_not_filled(tmp_path: Path) -> None:
    """There is nothing to copy; nor is a ledger made smaller."""
    file = tmp_path / "hub.sqlite3"
    _ledger(file)

    with pytest.raises(ValueError, match="1 finished tasks cannot be filled to 0"):
        fill(file, 0)
    with closing(sqlite3.connect(file)) as ledger:
        ledger.execute("UPDATE task SET ended = NULL")
        ledger.commit()
    with pytest.raises(ValueError, match="0 finished tasks"):
        fill(file, 10)
