"""Draw a report: `python -m harness.plot REPORT.json FOLDER`, in the environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from harness.figures import summary
from harness.table import by_entry, picked

_PANELS = (
    ("lone task, p50 ms (less is better)", "lone", lambda said: said["p50_ms"]),
    ("a call each, tasks/s", "each", lambda said: said["count"] / said["seconds"]),
    ("one call for many, tasks/s", "many", lambda said: said["count"] / said["seconds"]),
    ("8 callers, tasks/s", "threads", lambda said: said["count"] / said["seconds"]),
    ("CPU ms a task, a call each, all processes (less is better)", "each", lambda said: sum(said["cpu_ms"].values())),
    ("CPU ms a task, one call for many (less is better)", "many", lambda said: sum(said["cpu_ms"].values())),
)


def draw(report: dict[str, Any]) -> Any:
    """Return a figure with a panel for each number; whiskers from the lowest to the highest run."""
    runs = by_entry(report)
    durable = {entry["name"]: entry["is_durable"] for entry in report["entries"]}
    figure, axes = plt.subplots(3, 2, figsize=(14, 13), layout="constrained")
    for axis, (title, workload, value) in zip(axes.flat, _PANELS, strict=True):
        said = {name: summary(picked(records, workload, value)) for name, records in runs.items()}
        bars = [(name, each) for name, each in reversed(said.items()) if each]
        axis.barh(
            [name for name, _ in bars],
            [each.median for _, each in bars],
            xerr=[[each.median - each.low for _, each in bars], [each.high - each.median for _, each in bars]],
            color=[
                "#2b6cb0" if name.startswith("blocks") else "#718096" if durable[name] else "#cbd5e0"
                for name, _ in bars
            ],
        )
        axis.set_title(title, fontsize=10)
        axis.set_xlim(left=0)
        axis.tick_params(labelsize=8)
    about = report["about"]
    figure.suptitle(
        "blue: blocks_worker; dark: fsync at each commit; light: each second.  "
        f"{about['date']}, commit {about['commit']}, {about['rounds']} rounds, {about['cores']} cores",
        fontsize=9,
    )
    return figure


if __name__ == "__main__":
    made = draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    for kind in ("svg", "png"):
        made.savefig(Path(sys.argv[2]) / f"last.{kind}", dpi=110)
