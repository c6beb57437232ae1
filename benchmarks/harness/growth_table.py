"""Write how the rate stood as something grew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.figures import Run
from harness.table import by_role, cell, grid, heading, put, shares

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BEGIN = "<!-- generated: ./scripts/bench --growth -->"
_WHAT = {
    "finished": "finished tasks in the ledger",
    "open": "open sessions of the client",
    "instances": "instances of the agent",
}
_HEADS = ["what grows", "how many", "tasks/s", "÷ the first", "CPU ms a task", "RSS MiB", "hub starts in s"]


def put_growth(page: str, text: str) -> str:
    """Return the page with the text in the place of what grows."""
    return put(page, text, BEGIN)


def growth_table(report: Mapping[str, Any]) -> str:
    """Return everything that one command measured, as Markdown."""
    note = (
        f"{report['count']:,} tasks by `send_many` over `hublink`, each commit on the disk. ÷ the first: the rate over "
        "that of the smallest of the same round. CPU, RSS: client + hub + worker."
    )
    wrong = [
        f"- {_WHAT[run['curve']]}, {run['size']:,}, failed in round {run['round']}: {run['error']}"
        for run in report["runs"]
        if "error" in run
    ]
    parts = [heading(_as_workloads(report), "point"), note, grid(_HEADS, _rows(report)), "\n".join(wrong)]
    return "\n\n".join(part for part in parts if part)


def _as_workloads(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report as one of entries: each point is a run with one workload."""
    return {**report, "runs": [{"workloads": {} if "error" in run else {"many": run}} for run in report["runs"]]}


def _rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    for curve, sizes in report["sizes"].items():
        for size in sizes:
            runs = [run for run in good(report, curve) if run["size"] == size]
            records = [{"workloads": {"many": run}} for run in runs]
            yield [
                _WHAT[curve],
                f"{size:,}",
                cell([Run(rate(run), run["others"]) for run in runs]),
                cell(compared(good(report, curve), size, sizes[0])),
                shares(records, "many"),
                by_role(records, "many", "rss_mib"),
                cell([Run(run["start_s"], run["others"]) for run in runs]),
            ]


def good(report: Mapping[str, Any], curve: str) -> list[Mapping[str, Any]]:
    """Return the points of a curve that have a figure."""
    return [run for run in report["runs"] if run["curve"] == curve and "error" not in run]


def rate(run: Mapping[str, Any]) -> float:
    """Return the tasks a second of a point."""
    return float(run["count"] / run["seconds"])


def compared(runs: Sequence[Mapping[str, Any]], size: int, first: int) -> list[Run]:
    """Return the rates of a size over those of the first in the same rounds; as clean as the less clean of both."""
    base = {run["round"]: run for run in runs if run["size"] == first}
    return [
        Run(rate(run) / rate(base[run["round"]]), max(run["others"], base[run["round"]]["others"]))
        for run in runs
        if run["size"] == size and run["round"] in base
    ]
