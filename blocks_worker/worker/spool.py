"""Outcomes that the hub has not answered in time, kept in a file that outlives this process."""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from blocks_worker.concurrency import ServiceThread
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.leases import LateReport
from blocks_worker.worker.spool_file import SUFFIX, SpoolFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from blocks_worker.concurrency import Clock, Deadline
    from blocks_worker.protocol.leases import Report
    from blocks_worker.worker.run import RunKey

_logger = logging.getLogger(__name__)

#: Seconds without an answer after which an outcome is written down.
SPOOL_AFTER = 1.0
#: Seconds until a disk that took nothing is asked again.
RETRY = 5.0

_NEVER = float("inf")


@dataclass(frozen=True)
class SpoolPlace:
    """Where outcomes are kept.

    Attributes:
        mark: stands for hub and key: a file is replayed only where its leases count.
        always: write every outcome before it is sent, for a task that must not be run twice.
    """

    folder: Path
    mark: str
    always: bool = False

    @classmethod
    def of(cls, folder: Path, *, hub: str, api_key: str, always: bool) -> SpoolPlace:
        """Return the place for one hub and one key."""
        return cls(folder, hashlib.sha256(f"{hub}\n{api_key}".encode()).hexdigest()[:16], always)

    def file(self, incarnation: str) -> Path:
        """Return the file of one process life."""
        return self.folder / f"{self.mark}.{incarnation}{SUFFIX}"

    def files(self) -> list[Path]:
        """Return the files of all process lives, the oldest name first."""
        return sorted(self.folder.glob(f"{self.mark}.*{SUFFIX}"))


class Records(Protocol):
    """Be an open file of records."""

    def append(self, records: Sequence[bytes]) -> None:
        """Make all of them durable, or none."""

    def clear(self) -> None:
        """Forget them."""

    def close(self) -> None:
        """Let go of the file; an empty one goes."""


class Spool:
    """Own the thread "spool": it looks once an outcome is overdue, and writes what then is still unanswered.

    Overdue is what has waited `after` seconds; a disk that took nothing is asked again after `retry` seconds.

    What was answered meanwhile stays in the file until nothing in it waits any more: to say it again does no harm.
    Without a place it does nothing. `_disk` is held while the file is touched, `_lock` never.
    """

    def __init__(
        self,
        place: SpoolPlace | None,
        *,
        incarnation: Callable[[], str],
        unanswered: Callable[[Iterable[RunKey]], list[Report]],
        clock: Clock,
        open_file: Callable[[Path], Records] = SpoolFile,
        after: float = SPOOL_AFTER,
        retry: float = RETRY,
    ) -> None:
        self._place = place
        self._incarnation = incarnation
        self._unanswered = unanswered
        self._clock = clock
        self._open_file = open_file
        self._after = after
        self._retry = retry
        self._disk = threading.Lock()
        self._file: Records | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        #: What is to be written, and when; what is written and waits for its answer.
        self._due: dict[RunKey, float] = {}
        self._kept: set[RunKey] = set()
        #: What is written before it is sent.
        self._first_written: set[RunKey] = set()
        self._looks_at = _NEVER
        self._stopping = False
        self._thread = ServiceThread("spool", self._serve)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing in the file waits for an answer."""
        with self._lock:
            return not self._kept

    @property
    def kept(self) -> int:
        """How many outcomes in the file wait for an answer."""
        with self._lock:
            return len(self._kept)

    def start(self) -> None:
        """Start the thread."""
        if self._place is not None:
            self._thread.start()

    def stop(self, deadline: Deadline) -> bool:
        """Write what is unanswered now, and end; tell whether the thread ended."""
        with self._lock:
            self._stopping = True
            self._changed.notify()
        return self._thread.join(deadline.remaining())

    def ended(self, key: RunKey, *, once: bool = False) -> None:
        """Take note of a run that has an outcome now; `once`: of a task that runs at most once."""
        if self._place is None:
            return
        with self._lock:
            if once or self._place.always:
                self._first_written.add(key)
            due = self._due[key] = self._clock.monotonic() + self._after
            if due < self._looks_at:
                self._changed.notify()

    def answered(self, key: RunKey) -> None:
        """Take note that the hub has answered an outcome, or that it does not count any more."""
        if self._place is None:
            return
        with self._lock:
            self._due.pop(key, None)
            self._first_written.discard(key)
            if key in self._kept:
                self._kept.discard(key)
                if not self._kept:
                    self._changed.notify()

    def before_sending(self, keys: Iterable[RunKey]) -> None:
        """Write those of these outcomes first that have to be on disk before anybody hears of them."""
        if not self._first_written:  # nearly always; an outcome gets here after its run was taken note of
            return
        with self._lock:
            new = [key for key in keys if key in self._due and key in self._first_written]
        if new:
            self._keep(new)

    def _serve(self) -> None:
        while True:
            with self._lock:
                due, empty, over = self._next()
            if due:
                self._keep(due)
            elif empty:
                self._tidy()
            if over:
                self._close()
                return

    def _next(self) -> tuple[list[RunKey], bool, bool]:
        """Wait for something to do: keys to write, whether the file may be emptied, whether this is the end."""
        while True:
            now = self._clock.monotonic()
            due = [key for key, when in self._due.items() if self._stopping or when <= now]
            empty = self._file is not None and not self._kept
            if due or empty or self._stopping:
                return due, empty, self._stopping
            self._looks_at = min(self._due.values(), default=_NEVER)
            self._changed.wait(None if self._looks_at == _NEVER else self._looks_at - now)
            self._looks_at = float("-inf")

    def _keep(self, keys: list[RunKey]) -> None:
        with self._disk:
            with self._lock:
                taken = [key for key in keys if self._due.pop(key, None) is not None]
                self._kept.update(taken)
            # An answer that comes from here on finds the key among the kept ones.
            reports = self._unanswered(taken)
            try:
                self._write(reports)
            except OSError as error:
                _logger.warning("spool_failed", extra={"error": str(error)})
                self._put_back(taken)

    def _write(self, reports: list[Report]) -> None:
        if not reports or self._place is None:
            return
        incarnation = self._incarnation()
        if self._file is None:
            self._file = self._open_file(self._place.file(incarnation))
        self._file.append([encode(LateReport(incarnation=incarnation, report=report)) for report in reports])
        _logger.info("outcomes_spooled", extra={"reports": len(reports)})

    def _put_back(self, keys: list[RunKey]) -> None:
        """Try again later with what the disk did not take and nobody answered meanwhile."""
        with self._lock:
            again = self._clock.monotonic() + self._retry
            self._due.update({key: again for key in keys if key in self._kept})
            self._kept.difference_update(keys)

    def _tidy(self) -> None:
        """Remove the file once nothing in it waits any more; the next outcome makes another one."""
        with self._disk:
            with self._lock:
                if self._kept or self._file is None:
                    return
                file, self._file = self._file, None
            try:
                file.clear()
                file.close()
            except OSError as error:
                _logger.warning("spool_failed", extra={"error": str(error)})

    def _close(self) -> None:
        with self._disk:
            file, self._file = self._file, None
            if file is not None:
                file.close()
