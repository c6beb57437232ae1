"""The hub's side of one run, in memory: it hands out the lease, and keeps what the run says, stores and streams."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from blocks_worker.context.steps import stored_form, value_of
from blocks_worker.controlplane.api import ItemResult
from blocks_worker.controlplane.files import store_file
from blocks_worker.protocol.control import StartTask
from blocks_worker.protocol.events import ArtifactRef, event_head, numbered, stored_event
from blocks_worker.protocol.files import PIECE, RequestUpload, UploadDone, UploadOffer, UploadProgress
from blocks_worker.protocol.leases import AnswerFlag, Claim, ClaimAnswer, Outcome, Report, ReportAnswer
from blocks_worker.protocol.steps import Step, StepsAnswer
from blocks_worker.protocol.streams import Frame, GrantedStream, StreamName, down_channel, read_message
from blocks_worker.streams.exchange import StreamExchange
from blocks_worker.streams.reader import Joiner, opened
from blocks_worker.testing.given_answers import GivenAnswers
from blocks_worker.transports.memory import MemoryBus, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from blocks_worker.client.parts import LargeFile
    from blocks_worker.concurrency import Clock

_EPOCH = 1
_OK = 200


class Files:
    """Keep files by their ids: what the hub's file store is to a run and to its sender."""

    def __init__(self) -> None:
        self._asked: dict[str, RequestUpload] = {}
        self._content: dict[str, bytes] = {}

    def request_upload(self, request: RequestUpload) -> UploadOffer:
        """Take the next id."""
        file_id = f"file-{len(self._asked) + 1}"
        self._asked[file_id] = request
        return UploadOffer(upload_id=file_id, upload_url=file_id)

    def upload_progress(self, url: str) -> UploadProgress:
        """Tell how much came."""
        return UploadProgress(upload_id=url, offset=len(self._content.get(url, b"")), size=self._asked[url].file_size)

    def put_file(self, url: str, file: BinaryIO, size: int, first: int = 0) -> None:
        """Take the bytes."""
        self._content[url] = self._content.get(url, b"")[:first] + file.read(size - first)

    def confirm_upload(self, upload_id: str) -> UploadDone:
        """Return the reference."""
        asked = self._asked[upload_id]
        ref = ArtifactRef(
            kind="file",
            mime_type=asked.mime_type,
            size=asked.file_size,
            hash=asked.sha256,
            file_name=asked.file_name,
            file_id=upload_id,
        )
        return UploadDone(upload_id=upload_id, artifact_ref=ref)

    @contextmanager
    def file(self, file_id: str, first: int = 0) -> Iterator[Iterator[bytes]]:
        """Give the pieces."""
        content = self._content[file_id]
        yield (content[start : start + PIECE] for start in range(first, len(content), PIECE))

    def keep(self, file: LargeFile) -> ArtifactRef:
        """Store an input."""
        about = RequestUpload(
            role="consumer-input", file_name=file.file_name, mime_type=file.mime_type, part_id=file.part_id
        )
        return store_file(self, file.content, about, lambda _failure: False).artifact_ref

    def file_pieces(self, ref: ArtifactRef) -> Iterator[bytes]:
        """Yield a stored file, as a session does."""
        with self.file(ref.file_id or "") as pieces:
            yield from pieces


class Desk(Files):
    """Be the hub of one run.

    Attributes:
        over: set once the outcome has come, or the run was given back.
        outcome: how it ended; None when it was given back.
    """

    incarnation = "this-process"

    def __init__(
        self, task_id: str, agent: str, *, max_runtime: float, clock: Clock, answers: GivenAnswers | None = None
    ) -> None:
        super().__init__()
        self.answers = answers or GivenAnswers()
        self.over = threading.Event()
        self.outcome: Outcome | None = None
        self._task_id = task_id
        self._agent = agent
        self._max_runtime = max_runtime
        self._clock = clock
        self._start = b""
        self._events: dict[int, dict[str, Any]] = {}
        self._steps: dict[str, bytes] = {}
        self._bus = _Tape()

    @property
    def api(self) -> Desk:
        """The calls of a run."""
        return self

    def know(self, steps: Mapping[str, object]) -> None:
        """Have these steps stored, as if a run before had done them."""
        self._steps.update({name: stored_form(name, value) for name, value in steps.items()})

    def stored(self) -> dict[str, Any]:
        """Return what is stored of each step."""
        return {name: value_of(value) for name, value in self._steps.items()}

    def steps(self, task_id: str, after: str = "", *, timeout: float) -> StepsAnswer:  # noqa: ARG002 - at once
        """Return what is stored of the steps behind a name."""
        return StepsAnswer(steps=[step for step in self._listed(self._steps) if step.name > after])

    def _listed(self, names: Iterable[str]) -> list[Step]:
        return [Step(name=name, value=msgspec.Raw(self._steps[name])) for name in sorted(names)]

    def offer(self, start: bytes) -> StartTask:
        """Return the offer of the task with this content; the claim brings it."""
        self._start = start
        return StartTask(task_id=self._task_id, epoch=_EPOCH, digest=hashlib.sha256(start).hexdigest())

    def claims(self, items: Sequence[Claim], *, timeout: float) -> list[ItemResult[ClaimAnswer]]:  # noqa: ARG002 - at once
        """Give the lease."""
        return [
            ItemResult(
                _OK,
                ClaimAnswer(
                    task_id=item.task_id,
                    epoch=item.epoch,
                    lease="lease",
                    attempt=1,
                    digest=hashlib.sha256(self._start).hexdigest(),
                    max_runtime=self._max_runtime,
                    start=msgspec.Raw(self._start),
                    steps=self._listed(self._steps),
                ),
                None,
            )
            for item in items
        ]

    def reports(self, items: Sequence[Report], *, timeout: float) -> list[ItemResult[ReportAnswer]]:  # noqa: ARG002 - at once
        """Keep what the run says."""
        return [ItemResult(_OK, self._take(item), None) for item in items]

    def _take(self, report: Report) -> ReportAnswer:
        for step in report.steps:
            self._steps.setdefault(step.name, bytes(step.value))
        for event in report.events:
            head = event_head(self._task_id, report.epoch, self._clock.wall_ms())
            said = stored_event(head, event.n, bytes(event.body))
            self._events[event.n] = json.loads(numbered(said, event.n))
        asked = [fields for event in report.events if (fields := self._events[event.n])["type"] == "question"]
        if report.outcome is not None or report.release:
            self.outcome = report.outcome
            self.over.set()
        state = "running" if report.outcome is None else report.outcome.state
        stored = self._listed(step.name for step in report.steps)
        answer = ReportAnswer(task_id=report.task_id, epoch=report.epoch, state=state, steps=stored)
        if asked:
            answer.answers = [self._flag(report, fields) for fields in asked]
        return answer

    def _flag(self, report: Report, fields: dict[str, Any]) -> AnswerFlag:
        value = self.answers.to(fields)
        return AnswerFlag(task_id=report.task_id, epoch=report.epoch, ask_id=fields["id"], value=value)

    def events(self) -> list[dict[str, Any]]:
        """Return what was said, in order."""
        return [self._events[n] for n in sorted(self._events)]

    # ------------------------------------------------------------ streams

    def open_exchange(self) -> StreamExchange:
        """Return an exchange on a bus in memory."""
        return StreamExchange(
            open_transport=lambda: MemoryTransport(self._bus, producer=self.incarnation), grants=self, clock=self._clock
        )

    def want(self, new: StreamName) -> GrantedStream:
        """Grant it."""
        return self.hand_out(new)

    def hand_out(self, name: StreamName) -> GrantedStream:
        """Grant it, with tokens that open nothing."""
        return GrantedStream(
            task_id=name.task_id,
            stream_id=name.stream_id,
            channel=down_channel(self._agent, name.stream_id),
            consumer_token="consumer-token",  # noqa: S106 - there is no lock
            agent_token="agent-token",  # noqa: S106 - as above
        )

    def drop(self, task_id: str, stream_id: str) -> None:
        """There is no grant to renew."""

    def rename(self, stream_id: str, old: str, new: str) -> None:
        """There is no grant to renew."""

    def streamed(self, channel: str) -> list[Any]:
        """Return what was written to the stream on this channel: its events, or its chunks."""
        return self._bus.written(channel)


class _Tape(MemoryBus):
    """Keep all that is said on a bus."""

    def __init__(self) -> None:
        super().__init__()
        self._heard: list[tuple[str, str]] = []

    def append(self, channel: str, producer: str, first: int, texts: Sequence[str]) -> None:
        """Take messages."""
        super().append(channel, producer, first, texts)
        self._heard.extend((channel, text) for text in texts)

    def written(self, channel: str) -> list[Any]:
        """Return what the frames on a channel hold, each frame once."""
        bodies = [json.loads(text) for heard, text in self._heard if heard == channel]
        found = [
            frame for frame in map(read_message, bodies) if isinstance(frame, Frame) and frame.type != "stream_end"
        ]
        frames = {(frame.sender, frame.seq): frame for frame in found}
        joiner = Joiner()
        messages = [opened(frame, joiner) for frame in frames.values()]
        return [item for message in messages if message is not None for item in message.data]
