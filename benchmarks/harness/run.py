"""Measure the product beside its peers: every round runs every entry once, the floors first."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import about, growth
from harness.asking import FailedError
from harness.entries import UnknownEntryError, chosen, skipped
from harness.environments import PLOT, MissingError, cache, interpreter, versions
from harness.floors import floors
from harness.growth_table import growth_table, put_growth
from harness.measure import await_quiet, moment
from harness.one_run import QUICK, ROOT, Amounts, run
from harness.servers import PROGRAMS, program, server_versions
from harness.table import put, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.entries import Entry

#: What the product stands on, for the table.
_OURS = ("blocks_worker", "pubnub", "SQLAlchemy", "uvicorn", "uvloop", "msgspec")
#: Servers that are programs of the system.
_SYSTEM = {**dict.fromkeys(("redis", "rabbitmq", "nats-redis"), "redis-server"), "postgres": "postgres"}


def arguments(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="./scripts/bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (5)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="an entry; again for more; * fits all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round with few tasks: shows that all works, no figures"
    )
    parser.add_argument("--list", action="store_true", help="print the entries and end")
    parser.add_argument("--readme", action="store_true", help="write the tables into benchmarks/README.md as well")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for last.json, .svg, .png (benchmarks/results)")
    parser.add_argument(
        "--growth", action="store_true", help="instead: our rate as tasks, sessions and instances grow (growth.json)"
    )
    asked = parser.parse_args(args)
    if asked.rounds < 1:
        parser.error("--rounds is at least 1")
    if asked.quick and asked.readme:
        parser.error("--quick gives no figures for a page: leave --readme away")
    if asked.growth and asked.only:
        parser.error("--growth measures blocks-hublink alone: leave --only away")
    return asked


def ready(entry: Entry, hub_help: str) -> tuple[Path | None, str]:
    """Return the interpreter of an entry, or why it cannot run."""
    why = skipped(entry, hub_help=hub_help)
    if why:
        return None, why
    try:
        return interpreter(entry.peer, entry.packages), ""
    except MissingError as error:
        return None, str(error)


def measured(entries: Sequence[Entry], rounds: int, amounts: Amounts, *, is_patient: bool) -> dict[str, Any]:
    """Run all rounds; return the report."""
    asked = subprocess.run([str(PROGRAMS / "blocks-hub"), "--help"], capture_output=True, text=True, check=True)
    pythons = {entry.name: ready(entry, asked.stdout) for entry in entries}
    report: dict[str, Any] = {
        "about": about.about(ROOT.parent, rounds, all_versions(entries, pythons)),
        "amounts": asdict(amounts),
        "entries": [asdict(entry) for entry in entries],
        "floors": [],
        "runs": [],
    }
    for number in range(1, rounds + 1):
        report["floors"].append({"round": number, **floor(amounts)})
        for entry in entries:
            python, why = pythons[entry.name]
            waited = await_quiet() if is_patient and python else None
            record = run(entry, python, amounts) if python else {"entry": entry.name, "missing": why}
            report["runs"].append({"round": number, "others_before": waited, **record})
            tell(number, record)
    return report


def floor(amounts: Amounts) -> dict[str, Any]:
    """Return the floors of this round."""
    with tempfile.TemporaryDirectory(prefix="blocks-bench-") as folder:
        before = moment({})
        said = floors(Path(folder), amounts.lone)
        return {"ms": said, "others": before.until(moment({})).others}


def all_versions(entries: Sequence[Entry], pythons: dict[str, tuple[Path | None, str]]) -> dict[str, str]:
    """Return the version of everything that runs."""
    found = versions(Path(sys.executable), _OURS)
    systems = {}
    for entry in entries:
        python, _ = pythons[entry.name]
        if python and entry.packages:
            found |= versions(python, entry.packages)
        if python and entry.server in _SYSTEM:
            with suppress(MissingError):
                systems[_SYSTEM[entry.server]] = program(_SYSTEM[entry.server], entry.server)
    return found | about.system_versions(systems) | server_versions(entries)


def tell(number: int, record: dict[str, Any]) -> None:
    """Print a line about a run."""
    said = record.get("missing") or record.get("error") or ""
    lone = record["workloads"].get("lone") if "workloads" in record else None
    if lone and not said:
        said = f"p50 {lone['p50_ms']:.2f} ms, CPU {sum(lone['cpu_ms'].values()):.2f} ms, others {lone['others']:.0%}"
    print(f"round {number}: {record['entry']}: {said}", file=sys.stderr)


def plotted(report: Path, folder: Path) -> str:
    """Draw the report beside it; return why not, empty when it was."""
    try:
        python = interpreter("plot", PLOT)
    except MissingError as error:
        return str(error)
    done = subprocess.run(
        [str(python), "-m", "harness.plot", str(report), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip()[-300:] if done.returncode else ""


def main() -> int:
    """Measure, write the report, print the tables."""
    asked = arguments()
    try:
        entries = chosen(asked.only)
    except UnknownEntryError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if asked.list:
        print("\n".join(f"{entry.name:24} {entry.note}" for entry in entries))
        return 0
    if asked.growth:
        return grown(asked)
    report = measured(
        entries, 1 if asked.quick else asked.rounds, QUICK if asked.quick else Amounts(), is_patient=not asked.quick
    )
    written = kept(asked, report, "last.json")
    why = plotted(written, written.parent)
    if why:
        print(f"bench: no plot: {why}", file=sys.stderr)
    return told(asked, report, tables(report), put)


def grown(asked: argparse.Namespace) -> int:
    """Measure what grows, write the report, print the table."""
    plan, rounds = (growth.QUICK, 1) if asked.quick else (growth.PLAN, asked.rounds)
    report: dict[str, Any] = {
        "about": about.about(ROOT.parent, rounds, versions(Path(sys.executable), _OURS)),
        "count": plan.count,
        "sizes": plan.sizes,
    }
    try:
        report["runs"] = growth.measured(rounds, plan, is_patient=not asked.quick)
    except FailedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    kept(asked, report, "growth.json")
    return told(asked, report, growth_table(report), put_growth)


def kept(asked: argparse.Namespace, report: dict[str, Any], name: str) -> Path:
    """Write the report into the folder that was asked for; return where."""
    folder: Path = asked.out or (cache() / "quick" if asked.quick else ROOT / "results")
    folder.mkdir(parents=True, exist_ok=True)
    written = folder.resolve() / name
    written.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return written


def told(asked: argparse.Namespace, report: dict[str, Any], text: str, placed: Callable[[str, str], str]) -> int:
    """Print the tables, and write them into the page where asked; return the exit code."""
    print(text)
    if asked.readme:
        page = ROOT / "README.md"
        page.write_text(placed(page.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 1 if any("error" in each for each in report["runs"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
