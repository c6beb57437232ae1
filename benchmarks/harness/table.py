"""Write what the rounds said as tables, between the markers of a page."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from harness.figures import CLEAN, COMMITS, WEBSOCKET, Run, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

BEGIN = "<!-- generated: ./scripts/bench -->"
END = "<!-- end -->"
_ROLES = ("client", "broker", "worker")
#: What our entries alone are asked for.
_OWN = ("events", "stream", "memory")
_CALLS = {"lone": "one by one", "each": "a call each", "many": "one call for many", "threads": "8 callers"}


def put(page: str, text: str, begin: str = BEGIN) -> str:
    """Return the page with the text between its markers.

    Raises:
        ValueError: the page has no such place.
    """
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page has no {begin} followed by {END}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{END}{after}"


def figure(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if value >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004 - three digits


def cell(runs: Sequence[Run]) -> str:
    """Return median and range; a star when too few runs were clean."""
    said = summary(runs)
    if said is None:
        return "–"
    star = "\\*" if said.is_marked else ""
    if said.runs == 1:
        return figure(said.median) + star
    return f"{figure(said.median)}{star} ({figure(said.low)}–{figure(said.high)})"


def picked(
    records: Iterable[Mapping[str, Any]], workload: str, value: Callable[[Mapping[str, Any]], float]
) -> list[Run]:
    """Return one number of a workload for each round that has it."""
    said = [record.get("workloads", {}).get(workload) for record in records]
    return [Run(value(each), each["others"]) for each in said if each]


def by_entry(report: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the runs of each entry, in the order of the table."""
    return {
        entry["name"]: [run for run in report["runs"] if run["entry"] == entry["name"]] for entry in report["entries"]
    }


def tables(report: Mapping[str, Any]) -> str:
    """Return everything that one command measured, as Markdown."""
    runs = by_entry(report)
    ran = {name: each for name, each in runs.items() if any(run.get("workloads") for run in each)}
    parts = [heading(report), speed(report, ran), costs(report, ran), own(report, ran), floors(report)]
    parts.append(rest(report, runs))
    return "\n\n".join(part for part in parts if part)


def heading(report: Mapping[str, Any], each: str = "entry") -> str:
    """Return where, when and with what it was measured."""
    about = report["about"]
    others = [said["others"] for run in report["runs"] for said in run.get("workloads", {}).values()]
    busy = f"Others used {min(others):.0%}–{max(others):.0%} of the machine meanwhile. " if others else ""
    return (
        f"`{about['command']}`, {about['date']}, commit {about['commit']}; {about['machine']}, {about['cores']} cores, "
        f"{about['kernel']}, Python {about['python']}, SQLite {about['sqlite']}. "
        f"Rounds: {about['rounds']}, each running every {each} once; median (lowest–highest). {busy}"
        "\\* fewer than three runs in which others used less than 15 %: all runs count.\n\n"
        f"Versions: {', '.join(f'{name} {version}' for name, version in sorted(about['versions'].items()))}."
    )


def speed(report: Mapping[str, Any], ran: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return latencies, rates and start-up."""
    rows = []
    for entry in report["entries"]:
        records = ran.get(entry["name"])
        if not records:
            continue
        rates = [cell(picked(records, each, lambda said: said["count"] / said["seconds"])) for each in _CALLS]
        starts = [run for run in records if "start_s" in run]
        rows.append(
            [
                f"`{entry['name']}`",
                "each commit" if entry["is_durable"] else "each second, or later",
                cell(picked(records, "lone", lambda said: said["p50_ms"])),
                cell(picked(records, "lone", lambda said: said["p99_ms"])),
                ratio(report, records, COMMITS[entry["is_durable"]]),
                rates[1],
                rates[2] + (f" `{records[0]['batch']}`" if records[0].get("batch") else ""),
                rates[3],
                cell([Run(sum(run["start_s"].values()), 0) for run in starts]).replace("\\*", ""),
                entry["note"],
            ]
        )
    heads = ["entry", "on disk", "lone p50 ms", "p99 ms", "p50 ÷ floor", "a call each, tasks/s"]
    return grid([*heads, "one call for many, tasks/s", "8 callers, tasks/s", "start to first result, s", "note"], rows)


def ratio(report: Mapping[str, Any], records: Iterable[Mapping[str, Any]], commit: str) -> str:
    """Return the lone p50 over what two echoes and two commits took in the same round."""
    floor = {each["round"]: 2 * (each["ms"][WEBSOCKET] + each["ms"][commit]) for each in report["floors"]}
    return cell(
        [
            Run(run["workloads"]["lone"]["p50_ms"] / floor[run["round"]], run["workloads"]["lone"]["others"])
            for run in records
            if "lone" in run.get("workloads", {}) and run["round"] in floor
        ]
    )


def costs(report: Mapping[str, Any], ran: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return CPU time and memory of the processes."""
    rows = []
    for entry in report["entries"]:
        records = ran.get(entry["name"])
        if not records:
            continue
        row = [f"`{entry['name']}`", *(shares(records, call) for call in _CALLS)]
        idle = [run["idle"] for run in records if "idle" in run]
        for kind, roles in (("cpu_percent", _ROLES[1:]), ("rss_mib", _ROLES)):
            row.append(
                " + ".join(cell([Run(each[kind].get(role, 0.0), each["others"]) for each in idle]) for role in roles)
            )
        rows.append(row)
    heads = ["entry", *(f"CPU ms a task, {call}" for call in _CALLS.values())]
    note = (
        "CPU: client + broker (hub, server) + worker = all; idle CPU: broker + worker; RSS: client + broker + worker."
    )
    return f"{note}\n\n" + grid([*heads, "idle CPU %", "idle RSS MiB"], rows)


def shares(records: Sequence[Mapping[str, Any]], workload: str, scale: float = 1) -> str:
    """Return the CPU time a task of each process as medians, and the range of their sum."""
    said = medians(records, workload, lambda role, one: one["cpu_ms"].get(role, 0) * scale)
    if not said:
        return "–"
    total = cell(picked(records, workload, lambda one: sum(one["cpu_ms"].values()) * scale))
    return " + ".join(map(figure, said)) + f" = {total}"


def own(report: Mapping[str, Any], ran: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return what only our entries are asked for; others show a dash."""
    if not any("memory" in run.get("workloads", {}) for records in ran.values() for run in records):
        return ""
    rows = []
    for entry in report["entries"]:
        records = ran.get(entry["name"])
        if not records:
            continue
        rates = {name: cell(picked(records, name, lambda said: said["count"] / said["seconds"])) for name in _OWN}
        grown = by_role(records, "stream", "peak_growth_mib")
        before, after = (by_role(records, "memory", key) for key in ("rss_before_mib", "rss_mib"))
        row = [rates["events"], shares(records, "events", 1000), sized(records, "stream", "MiB", rates["stream"])]
        row += [shares(records, "stream"), grown, sized(records, "memory", "tasks", f"{before} → {after}")]
        rows.append([f"`{entry['name']}`", *row])
    heads = ["entry", "events/s", "CPU µs an event", "stream, MiB/s", "CPU ms a MiB", "peak growth, MiB"]
    note = "What our entries do beyond that; each column: client + hub + worker."
    return f"{note}\n\n" + grid([*heads, "RSS MiB before → after"], rows)


def by_role(records: Sequence[Mapping[str, Any]], workload: str, key: str) -> str:
    """Return a number of each process, as medians."""
    said = medians(records, workload, lambda role, one: one[key].get(role, 0))
    return " + ".join(map(figure, said)) if said else "–"


def medians(
    records: Sequence[Mapping[str, Any]], workload: str, value: Callable[[str, Mapping[str, Any]], float]
) -> list[float]:
    """Return the median of each process; none where no run has the workload."""
    said = [summary(picked(records, workload, partial(value, role))) for role in _ROLES]
    return [each.median for each in said if each]


def sized(records: Sequence[Mapping[str, Any]], workload: str, unit: str, text: str) -> str:
    """Return the text with how much of it the workload had; a dash where it was not run."""
    counts = sorted({run["workloads"][workload]["count"] for run in records if workload in run.get("workloads", {})})
    return f"{text}; {'/'.join(f'{count:,}' for count in counts)} {unit}" if counts else "–"


def floors(report: Mapping[str, Any]) -> str:
    """Return what the machine itself needed."""
    if not report["floors"]:
        return ""
    rows = [
        [name, cell([Run(each["ms"][name], each["others"]) for each in report["floors"]])]
        for name in report["floors"][0]["ms"]
    ]
    return grid(["floor", "p50 ms"], rows)


def rest(report: Mapping[str, Any], runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return what is missing, what failed and what came back wrong."""
    lines = []
    for name, records in runs.items():
        lines += sorted({f"- `{name}` is missing: {run['missing']}" for run in records if "missing" in run})
        lines += [f"- `{name}` failed in round {run['round']}: {run['error']}" for run in records if "error" in run]
        for run in records:
            bad = sum(each["wrong"] for each in run.get("workloads", {}).values())
            if bad:
                lines.append(f"- `{name}` gave {bad} wrong results in round {run['round']}")
    dropped = sum(each["others"] >= CLEAN for run in report["runs"] for each in run.get("workloads", {}).values())
    lines.append(f"- {dropped} workloads ran while others used {CLEAN:.0%} of the machine or more")
    return "\n".join(lines)


def grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(each.replace(chr(10), ' ') for each in line)} |" for line in lines)
