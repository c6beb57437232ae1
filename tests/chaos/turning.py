"""What a consumer does to tasks under way: he stops some, pauses and resumes some, and answers what they ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from chaos.wishes import ASK, SHORT_ASK, STOPPED_AT_ONCE, STOPPED_WHEN_BEGUN, wish

from blocks_worker.client.tasks import ListTasksParams
from blocks_worker.errors import BlocksError, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chaos.consumer import Share
    from chaos.notes import Notes

    from blocks_worker.client.client import TaskClient
    from blocks_worker.client.events import TaskEvent

T = TypeVar("T")
#: Seconds between two looks for questions of somebody else's tasks.
LOOK = 0.7
#: Seconds for which the own consumer lets another process answer.
LETS = 1.0
#: How often a pause of what runs is looked at, a tenth of a second each, until the handler waits.
LOOKS = 20


class Patience(Protocol):
    """Ask until the hub answers."""

    def __call__(self, what: str, ask: Callable[[], T]) -> T:
        """Return the answer."""


class Turning:
    """Own the threads that do it, and note what was asked and what was told."""

    def __init__(
        self, share: Share, notes: Notes, client: TaskClient, patiently: Patience, *, turned: Iterable[str]
    ) -> None:
        self._share = share
        self._notes = notes
        self._client = client
        self._patiently = patiently
        self._pool = ThreadPoolExecutor(12)
        self._ends = threading.Event()
        self._answered: set[str] = set()
        #: What was paused here, or resumed by an earlier life.
        self._turned = set(turned)
        self._looking = threading.Thread(target=self._look)
        self._looking.start()

    def close(self) -> None:
        """Wait for all that is on its way."""
        self._ends.set()
        self._looking.join()
        self._pool.shutdown()

    # ------------------------------------------------------------------ when
    def acknowledged(self, number: int, task: str, *, joins: bool) -> None:
        """Do what is to be done at once; an earlier life may have paused what is joined."""
        asked = wish(self._share.seed, number)
        if asked["kind"] in STOPPED_AT_ONCE:
            self._pool.submit(self._stop, task)
        if asked["kind"] == "paused" and (joins or not asked["begun"]):
            self._turn(task, asked["for"])

    def begun(self, number: int, task: str) -> None:
        """Do what is to be done once the handler has said something."""
        asked = wish(self._share.seed, number)
        if asked["kind"] in STOPPED_WHEN_BEGUN:
            self._pool.submit(self._stop, task)
        if asked["kind"] == "paused":
            self._turn(task, asked["for"])

    def asked(self, number: int, event: TaskEvent) -> None:
        """Answer, as the task wants it: once, twice at the same time, after another process, or nearly too late."""
        how = wish(self._share.seed, number).get("answers")
        if how == "one":
            self._pool.submit(self._answer, event.task_id, "a")
        elif how == "two":
            self._pool.submit(self._answer, event.task_id, "a")
            self._pool.submit(self._answer, event.task_id, "b")
        elif how == "another":
            self._pool.submit(self._answer, event.task_id, "a", LETS)
        elif how == "late":
            self._pool.submit(self._answer, event.task_id, "a", SHORT_ASK * 0.9)

    # ------------------------------------------------------------------ what
    def _turn(self, task: str, seconds: float) -> None:
        """Pause and resume a task, once."""
        if task not in self._turned:
            self._turned.add(task)
            self._pool.submit(self._pause, task, seconds)

    def _stop(self, task: str) -> None:
        self._notes.add("stopping", task=task)
        state = self._patiently("cancel", lambda: self._client.cancel_task(task, "enough"))
        self._notes.add("stopped", task=task, state=str(state))

    def _pause(self, task: str, seconds: float) -> None:
        state = self._patiently("pause", lambda: self._client.pause_task(task))
        for _ in range(LOOKS):
            if state != "running" or self._ends.wait(0.1):
                break
            state = self._patiently("look", lambda: self._client.get_task(task).state)
        self._notes.add("paused", task=task, state=state)
        self._ends.wait(seconds)
        self._notes.add("resuming", task=task)
        state = self._patiently("resume", lambda: self._client.resume_task(task))
        self._notes.add("resumed", task=task, state=state)

    def _answer(self, task: str, word: str, after: float = 0.0) -> None:
        self._ends.wait(after)
        value = f"{word} of {self._share.first}"
        self._notes.add("answering", task=task, value=value)
        stands, code = self._patiently("answer", lambda: self._told(task, value))
        self._notes.add("answered", task=task, value=value, stands=stands, code=code)

    def _told(self, task: str, value: str) -> tuple[str | None, str | None]:
        """Answer once; return what stands, or why nothing does."""
        try:
            self._client.answer_task(task, value, ASK)
        except RpcError as refused:
            if refused.code == "AnsweredBefore":
                return str(refused.details["value"]), None
            if refused.code in {"QuestionClosed", "NotAsked"}:
                return None, refused.code
            raise
        return value, None

    # ------------------------------------------------------------------ somebody else's
    def _look(self) -> None:
        """Answer questions of another process's tasks that want it."""
        while not self._ends.wait(LOOK):
            try:
                found = self._client.list_tasks(ListTasksParams(state="input-required")).tasks
            except BlocksError as error:
                self._notes.add("refused", what="list", why=str(error)[:200])
                continue
            for info in found:
                self._answer_other(info.task_id, info.extra.get("question") or {})

    def _answer_other(self, task: str, question: dict[str, Any]) -> None:
        number = int(question.get("question", self._share.first))
        is_mine = number % self._share.step == self._share.first
        if not is_mine and task not in self._answered and wish(self._share.seed, number).get("answers") == "another":
            self._answered.add(task)
            self._pool.submit(self._answer, task, "c")
