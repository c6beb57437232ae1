"""The figures of a chaos run, as one table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaos.oracle import overlapping, shown
from chaos.waits import held

from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from chaos.history import History, Note


@dataclass(frozen=True)
class Figures:
    """What a run came to; times in seconds."""

    tasks: int
    ended: Counter[str]
    lost: int
    double_ends: int
    wrong_sessions: int
    sessions: int
    disorder: int
    gaps: int
    runs: int
    retries_asked: int
    starts: int
    overlaps: int
    begun_twice: int
    #: From the kill of a worker to the next start of each task that it was at: the name came back at once, or never.
    restarts: list[float]
    gone: list[float]
    #: From the acknowledged stop to the moment at which the handler saw it.
    flags: list[float]
    drains: list[float]
    #: Tasks of which a run was answered, those of which several were, those in which nobody did in time.
    heard: int
    heard_again: int
    unheard: int
    #: Answers of which the caller was told that another one stands, or that nobody was in time.
    refused_answers: int
    #: Pauses that were known to hold before their resume.
    paused: int
    #: Steps that were stored, and how often a run was given one that another run had done.
    steps: int
    steps_given: int
    faults: Counter[str]
    integrity: str
    seconds: float

    @classmethod
    def of(cls, history: History, wrong: list[str]) -> Figures:
        """Work them out."""
        kinds = Counter(one.partition(":")[0] for one in wrong)
        restarts, gone = _recoveries(history)
        numbers = history.numbers()
        retries = sum(history.wish(number).get("failures", 0) for number in numbers.values())
        begun = {run.task for run in history.runs}
        return cls(
            tasks=len(history.rows),
            ended=Counter(shown(row) for row in history.rows.values() if shown(row) in SHOWN_TERMINAL),
            lost=kinds["I1"],
            double_ends=kinds["I2"],
            wrong_sessions=kinds["I3"],
            sessions=len(history.sessions),
            disorder=kinds["I4"] + kinds["I5"],
            gaps=sum(end["gap"] for one in history.sessions for end in one.terminals),
            runs=len(begun),
            retries_asked=retries,
            starts=len(history.runs),
            overlaps=sum(1 for _ in overlapping(history)),
            begun_twice=kinds["I11"],
            restarts=sorted(restarts),
            gone=sorted(gone),
            flags=sorted(
                max(0.0, min(seen) - history.stopped[task])
                for task, seen in history.flags.items()
                if task in history.stopped
            ),
            drains=sorted(note["seconds"] for note in history.of("drained")),
            heard=sum(_value(told) is not None for told in history.heard.values()),
            heard_again=sum(len(told) > 1 and _value(told) is not None for told in history.heard.values()),
            unheard=sum(_value(told) is None for told in history.heard.values()),
            refused_answers=sum(one["stands"] != one["value"] for told in history.answered.values() for one in told),
            paused=sum(1 for _ in held(history)),
            steps=len(history.steps),
            steps_given=sum(len(had) for had in history.steps.values()) - len(history.steps),
            faults=_faults(history),
            integrity=history.integrity,
            seconds=history.faults[-1]["at"] - history.faults[0]["at"],
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return the table."""
        extra = self.starts - self.retries_asked
        return [
            ("tasks", f"{self.tasks}: " + ", ".join(f"{count} {state}" for state, count in sorted(self.ended.items()))),
            ("lost", str(self.lost)),
            ("duplicate or wrong ends", str(self.double_ends)),
            ("sessions with other than one end, or not the record", f"{self.wrong_sessions} of {self.sessions}"),
            ("gaps or disorder; ends flagged as after a gap", f"{self.disorder}; {self.gaps}"),
            (
                "executions a task that ran; without the retries asked for",
                f"{self.starts / max(1, self.runs):.3f}; {extra / max(1, self.runs):.3f}",
            ),
            ("two live executions of one task", f"{self.overlaps} ({self.overlaps / max(1, self.tasks):.2%})"),
            ("at-most-once and pipes begun twice", str(self.begun_twice)),
            ("recovery after a kill, the name restarts", told(self.restarts)),
            ("recovery after a kill, gone for good", told(self.gone)),
            ("stop acknowledged until the handler's flag", told(self.flags)),
            ("exit after SIGTERM", told(self.drains)),
            (
                "tasks whose question was answered",
                f"{self.heard} ({self.heard_again} to several runs), in time by nobody {self.unheard}",
            ),
            ("answers refused, as another stands or it was late", str(self.refused_answers)),
            ("pauses that held until their resume", str(self.paused)),
            ("steps stored, and given to later runs", f"{self.steps}, {self.steps_given}"),
            ("faults", ", ".join(f"{count} {what}" for what, count in sorted(self.faults.items()))),
            ("integrity_check", self.integrity),
            ("seconds in all", f"{self.seconds:.0f}"),
        ]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows())
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.rows())


def share(ordered: list[float], part: float) -> float:
    """Return the value that this part of the ordered values does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def told(ordered: list[float]) -> str:
    """Return what there is to say of times."""
    if not ordered:
        return "none"
    return (
        f"p50 {share(ordered, 0.5):.2f} s, p99 {share(ordered, 0.99):.2f} s, most {ordered[-1]:.2f} s ({len(ordered)})"
    )


def _value(heard: list[Note]) -> str | None:
    return next((note["value"] for note in heard), None)


def _recoveries(history: History) -> tuple[list[float], list[float]]:
    """Return how long each task that a killed worker was at waited for its next run."""
    restarts: list[float] = []
    gone: list[float] = []
    for task, runs in history.runs_of().items():
        row = history.rows.get(task)
        if row is None:
            continue
        for note in history.of("signal"):
            if note["signal"] != "SIGKILL":
                continue
            held = [run for run in runs if run.pid == note["process"] and run.end is None and run.start < note["at"]]
            again = [run.start for run in runs if run.start > note["at"]]
            if held and again:
                (restarts if note["returns"] else gone).append(min(again) - note["at"])
    return restarts, gone


def _faults(history: History) -> Counter[str]:
    found: Counter[str] = Counter()
    for note in history.faults:
        name: Any = {"signal": note.get("signal"), "wire": note.get("fault")}.get(note["word"], note["word"])
        if note["word"] in {"signal", "wire", "hub killed", "consumer killed", "revoked", "disk filled", "clock moved"}:
            found[name] += 1
    return found
