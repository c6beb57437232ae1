"""A consumer that may be killed: ``python consumer.py '{…}'``. What it asked, was answered and was told it notes.

A new life reads the notes of the old one: what was acknowledged it joins by its task's id, what was asked and never
answered it asks again under the same key.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from chaos.notes import Notes, read
from chaos.turning import Turning
from chaos.wishes import options, wish

from blocks_worker.client.client import TaskClient
from blocks_worker.errors import BlocksError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session import TaskSession

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Share:
    """What one consumer is to ask: the tasks first, first + step, … of so many, spread over so many seconds."""

    notes: str
    seed: int
    first: int
    step: int
    tasks: int
    seconds: float
    #: Tasks under way at most.
    window: int = 60
    threads: int = 4


class Consumer:
    """Ask for a share of the tasks and listen to each until its end."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._notes = Notes(share.notes)
        self._pause = threading.Event()
        self._room = threading.Semaphore(share.window)
        self._lock = threading.Lock()
        self._sessions = 0
        self._open: set[TaskSession] = set()
        self._joined: list[threading.Thread] = []
        self._before = read(Path(share.notes))
        self._numbers = list(range(share.first, share.tasks, share.step))
        self._client = self._patiently("create", lambda: TaskClient.create("free"))
        turned = (note["task"] for note in self._before if note["word"] == "resumed")
        self._turning = Turning(share, self._notes, self._client, self._patiently, turned=turned)

    def run(self) -> None:
        """Take up what an earlier life left, ask for the rest, and return when all has ended."""
        before = self._before
        known = {note["number"]: note["task"] for note in before if note["word"] == "acknowledged"}
        ended = {note["task"] for note in before if note["word"] == "told" and note["type"] == "terminal"}
        for number, task in known.items():
            if task not in ended:
                session = self._patiently("connect", lambda task=task: self._client.connect(task))  # type: ignore[misc]
                self._watch(number, session, joins=True)
        self._ask_all([number for number in self._numbers if number not in known])
        while any(not session.is_closed for session in self._open) or any(one.is_alive() for one in self._joined):
            self._pause.wait(0.05)
        self._turning.close()
        self._client.destroy()
        self._notes.add("done")

    def _ask_all(self, numbers: list[int]) -> None:
        """Ask for these from several threads, evenly spread."""
        pace = 0.0 if not self._numbers else self._share.seconds / len(self._numbers)
        waiting = iter(enumerate(numbers))

        def work() -> None:
            while True:
                with self._lock:
                    turn = next(waiting, None)
                if turn is None:
                    return
                self._pause.wait(pace * self._share.threads)
                self._room.acquire()
                self._ask(turn[1])

        threads = [threading.Thread(target=work) for _ in range(self._share.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask(self, number: int) -> None:
        """Ask until there is an answer, always under the same key."""
        asked = wish(self._share.seed, number)
        self._notes.add("asked", number=number)
        session = self._patiently(
            "send",
            lambda: self._client.send_message(
                agent_name="chaotic",
                request_parts=json.dumps(asked),
                idempotency_key=f"{self._share.seed}.{number}",
                timeout=20.0,
                **options(asked),
            ),
        )
        self._notes.add("acknowledged", number=number, task=session.task_id)
        self._watch(number, session)

    def _watch(self, number: int, session: TaskSession, *, joins: bool = False) -> None:
        """Note all that the session tells; of what went before, only who iterates is told everything."""
        task = session.task_id
        with self._lock:
            self._sessions += 1
            name = f"{os.getpid()}.{self._sessions}"
            self._open.add(session)
        begun = threading.Event()
        self._notes.add("listens", session=name, task=task)

        def told(event: TaskEvent) -> None:
            self._notes.add(
                "told",
                session=name,
                task=task,
                type=event.type,
                epoch=event.epoch,
                n=event.n,
                state=event.state,
                code=event.error_code,
                last_n=event.last_n,
                gap=event.gap,
            )
            if event.type == "terminal":
                if not joins:
                    self._room.release()
            elif event.type == "question":
                self._turning.asked(number, event)
            elif event.n is not None and not begun.is_set():
                begun.set()
                self._turning.begun(number, task)

        if joins:
            self._joined.append(threading.Thread(target=lambda: [told(event) for event in session]))
            self._joined[-1].start()
        else:
            session.on_event(told)
        self._turning.acknowledged(number, task, joins=joins)

    def _patiently(self, what: str, ask: Callable[[], Answer]) -> Answer:
        """Ask until the hub answers; note each refusal."""
        while True:
            try:
                return ask()
            except BlocksError as error:
                self._notes.add("refused", what=what, why=str(error)[:200])
                self._pause.wait(0.2)


def main(text: str) -> None:
    """Be one life of a consumer."""
    given: dict[str, Any] = json.loads(text)
    Consumer(Share(**given)).run()


if __name__ == "__main__":
    main(sys.argv[1])
