"""The benchmark harness's own parts: figures, tables, the choice of entries, clocks, and comparing what came back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness.entries import ENTRIES, UnknownEntryError, chosen, skipped
from harness.environments import interpreter
from harness.figures import COMMITS, WEBSOCKET, Run, quantile, summary
from harness.measure import cpu_of, descendants, memory_of, moment
from harness.one_run import QUICK, ROOT, run
from harness.run import arguments
from harness.servers import SERVERS, server_versions
from harness.table import BEGIN, END, put, tables
from peers import blocking, looping


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    """Of 1 to 100 in any order, the share's value is one of them."""
    assert quantile(list(range(100, 0, -1)), share) == expected


def test_runs_beside_busy_neighbours_are_dropped_when_three_are_clean() -> None:
    """Median and range are those of the clean runs, and it is said how many were left out."""
    said = summary([Run(1, 0.01), Run(3, 0.02), Run(2, 0.14), Run(99, 0.5)])

    assert said is not None
    assert (said.median, said.low, said.high, said.runs, said.dropped, said.is_marked) == (2, 1, 3, 3, 1, False)


def test_with_too_few_clean_runs_all_count_and_are_marked() -> None:
    """No run is left out to please: the median is over all, and the cell has a mark."""
    said = summary([Run(1, 0.01), Run(3, 0.02), Run(99, 0.5)])

    assert said is not None
    assert (said.median, said.runs, said.dropped, said.is_marked) == (3, 3, 0, True)
    assert summary([]) is None


def test_entries_are_chosen_by_name_and_pattern() -> None:
    """A pattern chooses in the table's order; one that fits nothing says what there is."""
    assert [entry.name for entry in chosen(["huey*", "blocks-pubnub"])] == [
        "blocks-pubnub",
        "huey",
        "huey-durable",
        "huey-sqlite",
    ]
    assert chosen([]) == list(ENTRIES)
    with pytest.raises(UnknownEntryError, match="there are blocks-pubnub, "):
        chosen(["hueey"])


def test_a_transport_that_the_hub_does_not_have_is_skipped_with_a_word() -> None:
    """Only ours are asked for a transport, and only one that the hub's help names runs."""
    hublink = chosen(["blocks-hublink"])[0]

    assert skipped(hublink, hub_help="--port") == "blocks-hub has no --transport, and so no hublink"
    assert skipped(hublink, hub_help="--transport [pubnub|hublink]") == ""
    assert [entry.name for entry in ENTRIES if skipped(entry, hub_help="")] == [
        "blocks-hublink",
        "blocks-hublink-normal",
    ]


def test_each_entry_has_its_files_and_its_server() -> None:
    """What the table of entries names is there; a peer never runs in the product's environment."""
    for entry in ENTRIES:
        assert (ROOT / "peers" / f"{entry.peer}.py").is_file()
        assert entry.server in SERVERS
        assert bool(entry.packages) == (entry.peer != "ours")
        text = (ROOT / "peers" / f"{entry.peer}.py").read_text(encoding="utf-8")
        assert bool(entry.command) != ("def work(" in text)
    assert str(interpreter("ours", ())) == sys.executable


def test_a_broker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without its broker says how to get it, and has no version of it."""
    monkeypatch.setattr("shutil.which", lambda *_args, **_how: None)
    entries = chosen(["dramatiq-rabbitmq"])

    record = run(entries[0], Path(sys.executable), QUICK)

    assert record["missing"] == "rabbitmq-server is not installed: apt-get install rabbitmq-server"
    assert server_versions(entries) == {}


def test_the_version_of_rabbitmq_is_that_of_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is told without starting anything, where the program in the path is a link too; nobody else asks for it."""
    server = tmp_path / "rabbitmq_server-3.10.8" / "sbin" / "rabbitmq-server"
    server.parent.mkdir(parents=True)
    server.touch()
    link = tmp_path / "rabbitmq-server"
    link.symlink_to(server)
    monkeypatch.setattr("shutil.which", lambda *_args, **_how: str(link))

    assert server_versions(chosen(["celery-rabbitmq"])) == {"rabbitmq-server": "3.10.8"}
    assert server_versions(chosen(["celery"])) == {}


def test_a_quick_run_gives_no_figures_for_a_page() -> None:
    """The command line refuses to write what is none."""
    assert arguments(["--rounds", "3"]).rounds == 3
    with pytest.raises(SystemExit):
        arguments(["--quick", "--readme"])


def test_what_grows_is_measured_of_one_entry() -> None:
    """The switch is one of its own, and entries are not chosen beside it."""
    assert arguments(["--growth", "--rounds", "3"]).growth
    assert not arguments([]).growth
    with pytest.raises(SystemExit):
        arguments(["--growth", "--only", "huey"])


def test_cpu_and_memory_count_the_children_that_live_and_those_that_ended() -> None:
    """A process's cost has that of its ended child, which no clock of its own shows."""
    # What ended is counted in hundredths of a second.
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}]);print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own = time.clock_gettime((~process.pid << 3) | 2)

        assert cpu_of(process.pid) > own + 0.1
        assert memory_of(process.pid) > 1
        assert process.pid in descendants(os.getpid())
        process.communicate("")


def test_what_was_spent_is_told_by_role() -> None:
    """CPU that a named process used is its own, and none of it is others'."""
    before = moment({"me": os.getpid()})
    sum(range(10**6))
    spent = before.until(moment({"me": os.getpid()}))

    assert spent.cpu["me"] > 0
    assert spent.wall > 0
    assert spent.others >= 0


class _Liar:
    """A client that spoils the third of its results."""

    BATCH = "many"

    def __init__(self) -> None:
        self.asked = 0

    def submit(self, text: str) -> str:
        self.asked += 1
        return "something else" if self.asked == 3 else text

    def submit_many(self, texts: list[str]) -> list[str]:
        return [self.submit(text) for text in texts]

    def result(self, handle: str) -> str:
        return handle

    def close(self) -> None: ...


class _LoopingLiar(_Liar):
    """The same, awaited."""

    async def aopen(self) -> None: ...

    async def aclose(self) -> None: ...

    async def submit(self, text: str) -> str:
        return super().submit(text)

    async def result(self, handle: str) -> str:
        return handle


@pytest.mark.parametrize("workload", ["lone", "each", "many", "threads"])
def test_every_result_is_compared_with_what_was_sent(workload: str) -> None:
    """A wrong answer is counted, whatever way it was asked for."""
    workloads = blocking.Workloads(_Liar())

    assert getattr(workloads, workload)(20)["wrong"] == 1


@pytest.mark.parametrize("workload", ["lone", "each", "threads"])
def test_awaited_results_are_compared_as_well(workload: str) -> None:
    """The workloads of an asyncio product count wrong answers too, and send as many as they were told."""
    liar = _LoopingLiar()
    workloads = looping.Workloads(liar)

    assert getattr(workloads, workload)(100)["wrong"] == 1
    assert liar.asked == 100
    workloads.close()


def _workload(seconds: float, others: float = 0.02, wrong: int = 0) -> dict[str, Any]:
    cpu = {"client": 0.1, "broker": 0.2, "worker": 0.3}
    return {
        "count": 100, "seconds": seconds, "wrong": wrong, "cpu_ms": cpu, "others": others, "p50_ms": 2.0, "p99_ms": 9.0,
    }  # fmt: skip


def _report() -> dict[str, Any]:
    entry = {"name": "ours", "is_durable": True, "note": "a note"}
    idle = {"cpu_percent": {"broker": 1.0, "worker": 2.0}, "rss_mib": {"client": 40.0, "worker": 50.0}, "others": 0.0}
    runs: list[dict[str, Any]] = [
        {
            "entry": "ours",
            "round": number,
            "start_s": {"broker": 0.25, "worker": 0.5},
            "batch": "send_many",
            "workloads": {"lone": _workload(1), "each": _workload(seconds, wrong=number == 3), "many": _workload(1)},
            "idle": idle,
        }
        for number, seconds in ((1, 0.5), (2, 0.25), (3, 1.0))
    ]
    runs.append({"entry": "gone", "round": 1, "missing": "gone does not install", "workloads": {}})
    runs.append({"entry": "broken", "round": 1, "error": "no answer", "workloads": {}})
    about = {"command": "c", "date": "d", "commit": "abc", "machine": "m", "cores": 2, "kernel": "k", "python": "3"}
    floors = {WEBSOCKET: 0.1, COMMITS[True]: 0.4}
    return {
        "about": {**about, "sqlite": "3", "rounds": 3, "versions": {"celery": "5"}},
        "entries": [entry, {**entry, "name": "gone"}, {**entry, "name": "broken"}],
        "floors": [{"round": number, "ms": floors, "others": 0.0} for number in (1, 2, 3)],
        "runs": runs,
    }


def test_the_tables_have_medians_ranges_and_what_is_missing() -> None:
    """Rates are medians with their range; costs stand by process; who is missing, failed or was wrong is named."""
    text = tables(_report())

    assert "| 200 (100\N{EN DASH}400) |" in text
    assert "| 2.00 (2.00\N{EN DASH}2.00) |" in text  # 2 ms over two echoes and two commits of 0.5 ms together
    assert "0.10 + 0.20 + 0.30 = 0.60 (0.60\N{EN DASH}0.60)" in text
    assert "- `gone` is missing: gone does not install" in text
    assert "- `broken` failed in round 1: no answer" in text
    assert "- `ours` gave 1 wrong results in round 3" in text


def test_what_only_our_entries_do_has_a_table_with_dashes_for_others() -> None:
    """Events are told by the microsecond, sizes stand in the cell, and who was not asked shows a dash."""
    report = _report()
    assert "RSS MiB before" not in tables(report)
    roles = {"client": 10.0, "broker": 20.0, "worker": 30.0}
    for each in report["runs"][:3]:
        each["workloads"] |= {
            "events": {**_workload(0.5), "count": 2000},
            "stream": {**_workload(2), "count": 64, "peak_growth_mib": roles},
            "memory": {**_workload(1), "count": 5000, "rss_before_mib": roles, "rss_mib": {**roles, "client": 11.0}},
        }
    report["entries"].append({"name": "peer", "is_durable": True, "note": ""})
    report["runs"].append({"entry": "peer", "round": 1, "workloads": {"lone": _workload(1)}})
    text = tables(report)

    assert "| `ours` | 4,000 (4,000\N{EN DASH}4,000) | 100 + 200 + 300 = 600 (600\N{EN DASH}600) | 32.0 (" in text
    assert "; 64 MiB | 0.10 + 0.20 + 0.30" in text
    assert "10.0 + 20.0 + 30.0 \N{RIGHTWARDS ARROW} 11.0 + 20.0 + 30.0" in text
    assert "; 5,000 tasks |" in text
    assert "| `peer` | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} |" in text


def test_the_tables_go_between_the_markers_and_nowhere_else() -> None:
    """What people wrote around the markers stays; a page without them is refused."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    assert put(page, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert put(put(page, "new"), "new") == put(page, "new")
    assert put((ROOT / "README.md").read_text(encoding="utf-8"), "new").count("new") >= 1
    with pytest.raises(ValueError, match="no <!-- generated"):
        put("nothing here", "new")
