"""At a start: bring the hub the outcomes which dead processes of this user left in their spool files."""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

from blocks_worker.batching import BATCH_ITEMS
from blocks_worker.concurrency import Backoff, ServiceThread
from blocks_worker.errors import BlocksError, HubUnavailableError, InvalidMessageError, RpcError
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.leases import LateReport
from blocks_worker.worker.outboxes import REQUEST_BYTES
from blocks_worker.worker.parts import answered_each
from blocks_worker.worker.spool_file import SUFFIX, left_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.protocol.leases import ReportAnswer
    from blocks_worker.worker.spool import SpoolPlace

_logger = logging.getLogger(__name__)

#: Seconds that a registration waits for them: it ends the leases by which they count.
HEAD_START = 2.0
#: Seconds until a request without an answer is repeated.
SEND_TIMEOUT = 5.0
#: A file is of no use once the hub has forgotten the tasks in it.
KEPT_MS = 7 * 86_400_000


class Leftovers:
    """Own the thread "leftovers": it says what each file holds until the hub has answered all of it, and ends."""

    def __init__(
        self,
        place: SpoolPlace | None,
        *,
        send: Callable[[Sequence[LateReport], float], Sequence[ItemResult[ReportAnswer]]],
        clock: Clock,
        entropy: Entropy,
        head_start: float = HEAD_START,
    ) -> None:
        self._place = place
        self._head_start = head_start
        self._send = send
        self._clock = clock
        self._backoff = Backoff(entropy, first=0.1, cap=1.0)
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._thread = ServiceThread("leftovers", self._serve)

    def start(self) -> None:
        """Start, if there is anything to say."""
        if self._place is None or not self._files(self._place):
            self._done.set()
            return
        self._thread.start()

    def wait(self) -> bool:
        """Give them their head start; tell whether all is said."""
        return self._done.wait(self._head_start)

    def stop(self, deadline: Deadline) -> bool:
        """End; what is not answered stays for the next start."""
        self._stopping.set()
        self._done.set()
        return self._thread.join(deadline.remaining())

    def _files(self, place: SpoolPlace) -> list[Path]:
        self._forget_old(place)
        return place.files()

    def _forget_old(self, place: SpoolPlace) -> None:
        oldest = (self._clock.wall_ms() - KEPT_MS) / 1000
        for path in place.folder.glob(f"*{SUFFIX}"):
            with left_behind(path) as lines:
                if lines is not None and path.exists() and path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)

    def _serve(self) -> None:
        try:
            for path in self._place.files() if self._place is not None else ():
                self._replay(path)
        finally:
            self._done.set()

    def _replay(self, path: Path) -> None:
        with left_behind(path) as lines:
            if lines is None or self._stopping.is_set():
                return
            if self._say_all(_reports(lines)):
                path.unlink(missing_ok=True)

    def _say_all(self, sized: list[tuple[LateReport, int]]) -> bool:
        """Say them in order; tell whether the hub has answered each."""
        counts = {"recorded": 0, "too_late": 0}
        for batch in _batches(sized):
            waiting = batch
            while waiting:
                answered = self._try(waiting)
                if answered is None:
                    return False
                waiting = [item for item, status in zip(waiting, answered, strict=True) if _not_now(status)]
                counts["recorded"] += answered.count(HTTPStatus.OK)
                counts["too_late"] += sum(not _not_now(status) and status != HTTPStatus.OK for status in answered)
                if waiting and self._stopping.wait(self._backoff.next()):
                    return False
        _logger.info("spool_replayed", extra=counts)
        return True

    def _try(self, items: list[LateReport]) -> list[int] | None:
        """Return the status of each, trying again while the hub is away; None: not now and not by this process."""
        while True:
            try:
                answers = answered_each(items, lambda some: self._send(some, SEND_TIMEOUT))
                return [answer.status for answer in answers]
            except BlocksError as error:
                if not _passes(error):
                    _logger.warning("spool_refused", extra={"error": str(error)})
                    return None
                pause = self._backoff.after(error)
            if self._stopping.wait(pause):
                return None


def _reports(lines: list[bytes]) -> list[tuple[LateReport, int]]:
    """Return what the lines say, with their sizes; a spoilt one is left out, and told."""
    found: list[tuple[LateReport, int]] = []
    for line in lines:
        try:
            found.append((decode_trusted(LateReport, line), len(line)))
        except InvalidMessageError as error:
            _logger.warning("spool_line_spoilt", extra={"error": str(error)})
    return found


def _batches(sized: Iterable[tuple[LateReport, int]]) -> list[list[LateReport]]:
    batches: list[list[LateReport]] = [[]]
    size = 0
    for report, own in sized:
        if batches[-1] and (size + own > REQUEST_BYTES or len(batches[-1]) == BATCH_ITEMS):
            batches.append([])
            size = 0
        batches[-1].append(report)
        size += own
    return batches


def _not_now(status: int) -> bool:
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _passes(error: BlocksError) -> bool:
    """Tell whether a later try may do better."""
    return isinstance(error, HubUnavailableError) or (isinstance(error, RpcError) and _not_now(error.status))
