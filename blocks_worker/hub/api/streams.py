"""The door of streams: who may use which side of one, and the grant for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.hub.problems import CONFLICT, NOT_FOUND, RefusalError, not_found
from blocks_worker.hub.task_service import Consumer, Holder
from blocks_worker.protocol import codec
from blocks_worker.protocol.channels import held_wake_channel, stream_wake_channel
from blocks_worker.protocol.streams import (
    STREAM,
    GrantedStream,
    StreamGrant,
    StreamGrantRequest,
    StreamName,
    down_channel,
    up_channel,
)

if TYPE_CHECKING:
    from blocks_worker.concurrency import SteadyClock
    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.audit import Audit
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.auth.logins import Logins
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.hub.store.store import Store

_OK = 200
#: Milliseconds for which the streams of a task that ended are granted still: what is read can be read to its end.
RECENT = 600_000


class StreamDoors:
    """Grant streams: an instance its side of those of tasks it holds, a consumer his side of those of his tasks.

    Nothing is stored: a stream's name says whose it is. It begins with its task's id, or the agent's card declares
    it as shared.
    """

    def __init__(self, *, store: Store, guard: Guard, logins: Logins, steady: SteadyClock, audit: Audit) -> None:
        self._audit = audit
        self._steady = steady
        self._store = store
        self._guard = guard
        self._logins = logins

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [Door("POST", "/api/v1/streams/grants", self.grant, takes=StreamGrantRequest, gives=StreamGrant)]

    async def grant(self, call: Call) -> Answer:
        """Return one grant over all streams that are named.

        Who: instance for its side, consumer for his
        Answers: 200; each stream that is refused says so by itself · 400
        """
        who, expires = self._guard.admitted(call.bearer)
        life = self._logins.stream_life(who, expires=expires)
        request = codec.decode(StreamGrantRequest, call.body)
        granted = self._store.read(lambda ledger: [self._granted(ledger, who, name, life) for name in request.streams])
        self._note(who, granted)
        return Answer(_OK, codec.encode(self._answer(who, granted, life)))

    def _note(self, who: Consumer | Holder, granted: list[GrantedStream]) -> None:
        """Write down what was granted, and each stream that was refused."""
        told = {"by": who.owner, "key": who.key, "instance": who.instance_id if isinstance(who, Holder) else None}
        streams = [each.stream_id for each in granted if each.refused is None]
        if streams:
            self._audit.acted([("stream_grant_issued", {**told, "streams": streams})])
        for each in granted:
            if each.refused is not None:
                self._audit.refused(each.refused, **told, task=each.task_id, stream=each.stream_id)

    def _answer(self, who: Consumer | Holder, granted: list[GrantedStream], life: int) -> StreamGrant:
        user_id = who.instance_id if isinstance(who, Holder) else (who.session_channel or "").partition(".")[2]
        down = [each.channel for each in granted if each.refused is None]
        up = [up_channel(channel) for channel in down]
        read, write = (up, down) if isinstance(who, Holder) else (down, up)
        wake = stream_wake_channel(user_id)
        return StreamGrant(
            token=self._logins.stream_grant(user_id, read=[*read, wake], write=[*write, wake], life=life, key=who.key),
            expires_in=life,
            user_id=user_id,
            wake_channel=wake,
            streams=granted,
        )

    def _granted(self, ledger: Ledger, who: Consumer | Holder, name: StreamName, life: int) -> GrantedStream:
        """Return one stream with its channel; one that is refused does not keep the others from their grant."""
        try:
            record = self._task(ledger, who, name)
            self._check_name(ledger, record, name)
        except RefusalError as error:
            problem = error.problem
            return GrantedStream(
                task_id=name.task_id, stream_id=name.stream_id, refused=problem.code, message=problem.message
            )
        channel = down_channel(record.agent, name.stream_id)
        up = up_channel(channel)
        granted = GrantedStream(task_id=name.task_id, stream_id=name.stream_id, channel=channel)
        if name.hand_out:
            granted.consumer_token = self._handed_out(who.key, life, read=channel, write=up)
            if isinstance(who, Holder):
                granted.agent_token = self._handed_out(who.key, life, read=up, write=channel)
        return granted

    def _handed_out(self, key: str, life: int, *, read: str, write: str) -> str:
        """Return a token for one side of one stream; whoever holds it wakes his own poll with it too."""
        wake = held_wake_channel(read)
        return self._logins.stream_grant(None, read=[read, wake], write=[write, wake], life=life, key=key)

    def _task(self, ledger: Ledger, who: Consumer | Holder, name: StreamName) -> TaskRecord:
        record = ledger.task(name.task_id)
        if record is None or not _is_his(record, who):
            raise not_found()
        if record.ended is not None and self._steady.now_ms() - record.ended > RECENT:
            raise RefusalError(CONFLICT, "InvalidState", f"task {name.task_id} is over: its streams have ended")
        return record

    def _check_name(self, ledger: Ledger, record: TaskRecord, name: StreamName) -> None:
        if not STREAM.match(name.stream_id):
            raise RefusalError(NOT_FOUND, "NotFound", "a stream's id is 1 to 92 letters, digits, '_' and '-'")
        number = name.stream_id.removeprefix(f"{record.id}-")
        if number != name.stream_id and number.isdigit():
            return
        facts = ledger.agent(record.agent)
        if facts is None or name.stream_id not in _shared(facts.card):
            text = f"stream {name.stream_id!r} is neither one of task {record.id} nor declared as shared by its agent"
            raise RefusalError(NOT_FOUND, "NotFound", text)


def _is_his(record: TaskRecord, who: Consumer | Holder) -> bool:
    """Tell whether the task is the consumer's, or the instance holds it, or its agent did until it ended."""
    if isinstance(who, Consumer):
        return record.owner == who.owner
    return record.inc == who.incarnation or (record.is_ended and record.agent == who.agent_name)


def _shared(card: str | None) -> frozenset[str]:
    """Return the names of the streams that a card declares as shared."""
    streams = (json.loads(card) if card else {}).get("streams") or {}
    return frozenset(
        name for name, said in streams.items() if isinstance(said, dict) and said.get("affinity") == "shared"
    )
