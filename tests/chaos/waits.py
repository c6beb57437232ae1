"""What is promised of questions, pauses and durable steps, against one history.

I10: an answer that was accepted, and a step that was stored, is what every run gets; nobody asks or does it again.
I12: a task whose pause was acknowledged begins with nobody, and its handler does not go on, until it is resumed.
S: the events of a task tell one order: who asks or waits says nothing until the answer, or the resume, is there.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from blocks_worker.protocol.lifecycle import PAUSED, RESUMED, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.history import History, Note

#: The words by which the hub says that a question is open no more.
SETTLED = {"answered", "question_closed"}


def answers(history: History) -> Iterator[str]:
    """I10: everybody who answers is told that the same one stands; it is stored, and every run gets it."""
    for task, told in history.answered.items():
        stands = {note["stands"] for note in told if note["stands"] is not None}
        closed = any(note["code"] == "QuestionClosed" for note in told)
        if len(stands) > 1 or (stands and closed):
            yield f"I10: those who answered {task} were told {told}"
        if stands and history.answers.get(task) not in stands:
            yield f"I10: {task} was answered {stands}, and {history.answers.get(task)!r} is stored"
    for task, heard in history.heard.items():
        values = {note["value"] for note in heard}
        if task not in history.answers or values != {history.answers[task]}:
            yield f"I10: runs of {task} were answered {values}, and {history.answers.get(task, 'nothing')!r} is stored"
        if values - {None} - history.answering.get(task, set()):
            yield f"I10: runs of {task} were answered {values}, which nobody said"


def deaf(history: History) -> Iterator[str]:
    """I10: what asks, and completed, was answered, or told that nobody did."""
    for task, number in history.numbers().items():
        row = history.rows.get(task)
        asks = history.wish(number)["kind"] in {"asked", "unanswered"}
        if asks and row is not None and row["state"] == State.COMPLETED.value:
            if not history.heard.get(task):
                yield f"I10: {task} completed and heard nothing"
            if not any(event["type"] == "question" for event in history.events[task]):
                yield f"I10: {task} completed and never asked"


def asked_again(history: History) -> Iterator[str]:
    """I10: no run asks what was answered."""
    for task, events in history.events.items():
        answered: set[str] = set()
        for event in events:
            if event["type"] == "question" and event["id"] in answered:
                yield f"I10: {task} asked again in epoch {event['epoch']} what was answered"
            if event.get("status") == "answered":
                answered.add(event["id"])


def steps(history: History) -> Iterator[str]:
    """I10: whatever run asks for a step has the value that was stored first; a later run does it no more."""
    for (task, step), had in history.steps.items():
        if len({note["value"] for note in had}) != 1:
            yield f"I10: step {step} of task {task} was {[note['value'] for note in had]}"
        recorded = min(note["at"] for note in had)
        for note in history.done.get((task, step), []):
            begun = _begun(history, task, note)
            if begun > recorded and not history.is_away(note["pid"], begun, note["at"]):
                yield f"I10: step {step} of {task} was done again by a run that began {begun - recorded:.2f} s after it"


def _begun(history: History, task: str, note: Note) -> float:
    """Return when the run began that noted this."""
    starts = [run.start for run in history.runs if run.task == task and run.pid == note["pid"]]
    return max((at for at in starts if at <= note["at"]), default=0.0)


def pauses(history: History) -> Iterator[str]:
    """I12: between the acknowledged pause and the resume nobody begins the task, and who waits goes on waiting."""
    runs = history.runs_of()
    for task, since, until in held(history):
        for run in runs[task]:
            if since < run.start < until and not history.is_away(run.pid, run.start, run.start):
                yield f"I12: {task} began in {run.pid} {run.start - since:.2f} s after its pause, which holds"
            for _, ends in run.rests:
                if ends is not None and since < ends < until and not history.is_away(run.pid, ends, ends):
                    yield f"I12: {task} went on in {run.pid} {ends - since:.2f} s after its pause, which holds"


def held(history: History) -> Iterator[tuple[str, float, float]]:
    """Yield each task, and from when to when it was paused for sure: nobody had it, or its handler waited."""
    for task, notes in history.pauses.items():
        for place, note in enumerate(notes):
            if note["word"] != "paused" or note["state"] != "paused":
                continue
            # The resume of a life that was killed may come at any time.
            lost = {one["pid"] for one in notes[:place] if one["word"] == "resuming"}
            lost -= {one["pid"] for one in notes[:place] if one["word"] == "resumed"}
            if not lost:
                until = (one["at"] for one in notes[place:] if one["word"] == "resuming")
                yield task, note["at"], next(until, float("inf"))


def order(history: History) -> Iterator[str]:
    """S: a question is settled before anything else is said; a pause is told before its resume, and nothing between."""
    for task, events in history.events.items():
        by_epoch: dict[int, list[Note]] = defaultdict(list)
        for event in events:
            by_epoch[event["epoch"]].append(event)
        for epoch, told in by_epoch.items():
            for wrong in (*_questions(told), *_turns(told)):
                yield f"S: task {task} told in epoch {epoch} {wrong}"
        for before, after in pairwise(sorted(by_epoch)):
            if _open(by_epoch[before]) is not None and "queued" not in {one.get("status") for one in by_epoch[before]}:
                yield f"S: task {task} went on to epoch {after} while its question was open"


def _open(told: list[Note]) -> str | None:
    asked: str | None = None
    for event in told:
        if event["type"] == "question":
            asked = event["id"]
        elif event.get("status") in SETTLED:
            asked = None
    return asked


def _questions(told: list[Note]) -> Iterator[str]:
    """Yield what was said while a question was open, and what settled none."""
    asked: str | None = None
    for event in told:
        if event["type"] == "question":
            if asked is not None:
                yield f"a question while {asked} was open"
            asked = event["id"]
        elif event.get("status") in SETTLED:
            if event["id"] != asked:
                yield f"{event['status']} of {event['id']} while {asked} was open"
            asked = None
        elif asked is not None and (event.get("n") or event.get("state") == "completed"):
            yield f"{event} while {asked} was open"


def _turns(told: list[Note]) -> Iterator[str]:
    """Yield what a worker said while its handler waited for the resume, and a resume of nothing."""
    waits = False
    for event in told:
        if not event.get("n"):
            continue
        status = event.get("status") if event["type"] == "system" else None
        if status == RESUMED and not waits:
            yield "a resume without a pause"
        elif waits and status != RESUMED:
            yield f"{event} while it was paused"
        waits = status == PAUSED


#: One function for each promise.
OF_WAITS = (answers, deaf, asked_again, steps, pauses, order)
