"""The hub's HTTP interface: one typed method an endpoint. Long because each endpoint has its own here."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from blocks_worker.controlplane.refusals import STALE_CODES, pause_of, refusal
from blocks_worker.errors import HubUnavailableError, InvalidMessageError, RpcError
from blocks_worker.protocol.codec import decode_trusted, encode
from blocks_worker.protocol.credentials import CreatedKey, CreateKey, KeyList, KeyRow, SessionAnswer, SessionRequest
from blocks_worker.protocol.files import ConfirmUpload, RequestUpload, UploadDone, UploadOffer, UploadProgress
from blocks_worker.protocol.leases import (
    Claim,
    ClaimAnswer,
    ConnectAnswer,
    ConnectRequest,
    ConsumerToken,
    ConsumerTokenRequest,
    Heartbeat,
    HeartbeatAnswer,
    LateReport,
    RefreshAnswer,
    RefreshRequest,
    Report,
    ReportAnswer,
)
from blocks_worker.protocol.registry import AgentAnswer, AgentPage, AgentRow, DrainInstance, InstanceList
from blocks_worker.protocol.steps import StepsAnswer
from blocks_worker.protocol.streams import StreamGrant, StreamGrantRequest, StreamName
from blocks_worker.protocol.tasks import (
    AnswerAnswer,
    AnswerTask,
    CancelAnswer,
    CancelTask,
    EventsAnswer,
    EventsQuery,
    ItemAnswer,
    ItemAnswerOf,
    PauseTask,
    Problem,
    PurgedTask,
    ReadToken,
    ReadTokenRequest,
    RetryTask,
    SubmitAnswer,
    SubmitTask,
    TaskPage,
    TaskRole,
    TaskRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from blocks_worker.controlplane.answer import HttpAnswer
    from blocks_worker.controlplane.http import Http, HttpStream

_BASE = "/api/v1"
_UNAUTHORIZED = 401
_REFUSED = 400
#: Whatever is not a success; redirects are not followed.
_REDIRECTED = 300
T = TypeVar("T")


class Bearer(Protocol):
    """Where the access token comes from."""

    def access_token(self) -> str:
        """Return the token to use now."""

    def on_unauthorized(self, refused: str) -> bool:
        """Get a new token because this one was refused; tell whether there is another one now."""


@dataclass(frozen=True)
class ItemResult(Generic[T]):
    """What one item of a batch got: a body when it was taken or its shape is known, else a problem."""

    status: int
    body: T | None
    problem: Problem | None

    def value(self) -> T:
        """Return the body of an item that was taken.

        Raises:
            RpcError: it was refused.
        """
        if self.status >= _REFUSED or self.body is None:
            raise refusal(self.status, self.problem)
        return self.body


class HubApi:
    """Call the hub as one principal.

    A refused call raises `RpcError`; where nothing answered, `HubUnavailableError` comes through. An access
    token that is refused is renewed once, and the call repeated.
    """

    def __init__(self, http: Http, bearer: Bearer | None = None) -> None:
        self._http = http
        self._bearer = bearer

    def bearing(self, bearer: Bearer) -> HubApi:
        """Return the same hub's calls as another principal."""
        return HubApi(self._http, bearer)

    def connect(self, api_key: str, request: ConnectRequest) -> ConnectAnswer:
        """Register one process life of an instance."""
        return self.with_key("auth/agent/connect", api_key, request, ConnectAnswer, vital=True)

    def refresh(self, api_key: str, refresh_token: str) -> RefreshAnswer:
        """Trade a refresh token for a new pair of tokens."""
        return self.with_key("auth/agent/refresh", api_key, RefreshRequest(refresh_token=refresh_token), RefreshAnswer)

    def consumer_token(self, api_key: str) -> ConsumerToken:
        """Trade an API key for a consumer's tokens."""
        body = encode(ConsumerTokenRequest(api_key=api_key))
        answer = self._http.call("POST", f"{_BASE}/auth/agent/consumer-token", body=body)
        return _content(answer, ConsumerToken)

    def session(self, token: str, previous: str | None = None) -> SessionAnswer:
        """Trade an access token for a session; the channel of the previous one, named by its access token, is kept."""
        body = encode(SessionRequest(access_token=previous))
        return _content(self._http.call("POST", f"{_BASE}/auth/session", body=body, bearer=token), SessionAnswer)

    def create_key(self, api_key: str, request: CreateKey) -> CreatedKey:
        """Make an API key, asked for once only: a repeat would make another one.

        Raises:
            HubUnavailableError: no answer came; the key may have been made all the same, where `sent` is set.
        """
        path, body = f"{_BASE}/auth/keys", encode(request)
        try:
            return _content(self._http.call("POST", path, body=body, bearer=api_key, once=True), CreatedKey)
        except HubUnavailableError as error:
            if not error.sent:
                raise
            why = f"{error.why}; the key may have been made: 'blocks keys list' shows it, 'blocks keys revoke' ends it"
            raise HubUnavailableError(error.url, why, sent=True) from error

    def keys(self, api_key: str) -> list[KeyRow]:
        """Return the keys that this key may see, oldest first."""
        return _content(self._http.call("GET", f"{_BASE}/auth/keys", bearer=api_key), KeyList).keys

    def revoke_key(self, api_key: str, key_id: str) -> None:
        """Take a key back for good."""
        answer = self._http.call("DELETE", f"{_BASE}/auth/keys/{quote(key_id, safe='')}", bearer=api_key)
        if answer.status >= _REDIRECTED:
            raise _refused(answer)

    def late_reports(
        self, api_key: str, items: Sequence[LateReport], *, timeout: float | None = None
    ) -> list[ItemResult[ReportAnswer]]:
        """Say what processes that died had to say, each under its own lease."""
        path = f"{_BASE}/reports/late"
        answer = self._http.call("POST", path, body=encode(items), bearer=api_key, timeout=timeout)
        return _results(answer, len(items), ReportAnswer)

    def read_token(self, task_id: str, role: TaskRole = "consumer") -> ReadToken:
        """Return a grant to read one task's channel."""
        return self._post("auth/task-read-token", ReadTokenRequest(task_id=task_id, role=role), ReadToken)

    def submit(self, items: Sequence[SubmitTask], *, timeout: float | None = None) -> list[ItemResult[SubmitAnswer]]:
        """Ask for tasks; each may be repeated with the same task id and key."""
        return self._batch("tasks", items, SubmitAnswer, timeout=timeout)

    def get_task(self, task_id: str) -> TaskRow:
        """Return the row of a task."""
        return self._get(f"tasks/{quote(task_id, safe='')}", {}, TaskRow)

    def list_tasks(
        self,
        *,
        state: str | None = None,
        agent: str | None = None,
        dead: str | None = None,
        since: int | None = None,
        until: int | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> TaskPage:
        """Return one page of the caller's tasks, newest first; `dead`: only dead letters, by their reason or `any`."""
        query = {"state": state, "agent": agent, "dead": dead, "since": since, "until": until}
        return self._get("tasks", {**query, "cursor": cursor, "limit": limit}, TaskPage)

    def events(self, queries: Sequence[EventsQuery], *, timeout: float | None = None) -> list[ItemResult[EventsAnswer]]:
        """Return the stored events of tasks, each after its sequence number."""
        return self._batch("events", queries, EventsAnswer, timeout=timeout)

    def cancel_task(self, task_id: str, request: CancelTask, *, timeout: float | None = None) -> CancelAnswer:
        """Ask that a task stop; may be repeated."""
        return self._post(f"tasks/{quote(task_id, safe='')}/cancel", request, CancelAnswer, timeout)

    def retry_task(self, task_id: str, request: RetryTask, *, timeout: float | None = None) -> SubmitAnswer:
        """Send a task that failed or was canceled again; may be repeated with the same id of the new one, or key."""
        return self._post(f"tasks/{quote(task_id, safe='')}/retry", request, SubmitAnswer, timeout)

    def purge_task(self, task_id: str, *, timeout: float | None = None) -> PurgedTask:
        """Delete a task that has ended; may be repeated."""
        return _content(self._call("DELETE", f"tasks/{quote(task_id, safe='')}", None, timeout), PurgedTask)

    def pause_task(self, task_id: str, pause_seq: int, *, on: bool, timeout: float | None = None) -> TaskRow:
        """Ask that a task wait, or go on; may be repeated with the same number, which its row has."""
        verb = "pause" if on else "resume"
        path = f"tasks/{quote(task_id, safe='')}/{verb}"
        return self._post(path, PauseTask(pause_seq=pause_seq), TaskRow, timeout)

    def answer_task(self, task_id: str, answer: AnswerTask, *, timeout: float | None = None) -> AnswerAnswer:
        """Answer the question of a task; may be repeated with the same value."""
        return self._post(f"tasks/{quote(task_id, safe='')}/answer", answer, AnswerAnswer, timeout)

    def stream_grant(self, streams: Sequence[StreamName]) -> StreamGrant:
        """Return one grant over these streams, on the caller's side of each."""
        return self._post("streams/grants", StreamGrantRequest(streams=list(streams)), StreamGrant)

    def claims(self, items: Sequence[Claim], *, timeout: float | None = None) -> list[ItemResult[ClaimAnswer]]:
        """Take or refuse offered tasks."""
        return self._batch("claims", items, ClaimAnswer, timeout=timeout)

    def reports(self, items: Sequence[Report], *, timeout: float | None = None) -> list[ItemResult[ReportAnswer]]:
        """Say what runs have to say; an item that is fenced or has a hole keeps its body."""
        return self._batch("reports", items, ReportAnswer, timeout=timeout)

    def steps(self, task_id: str, after: str = "", *, timeout: float | None = None) -> StepsAnswer:
        """Return the stored steps of a task behind a name."""
        return self._get(f"tasks/{quote(task_id, safe='')}/steps", {"after": after or None}, StepsAnswer, timeout)

    def heartbeat(self, beat: Heartbeat, *, timeout: float | None = None) -> HeartbeatAnswer:
        """Say that the instance lives and what it holds."""
        return self._post("heartbeats", beat, HeartbeatAnswer, timeout=timeout, vital=True)

    def request_upload(self, request: RequestUpload) -> UploadOffer:
        """Ask where the bytes of a file may be sent."""
        return self._post("files/request-upload", request, UploadOffer)

    def upload_progress(self, url: str) -> UploadProgress:
        """Ask how much came to the address of an upload."""
        return _content(self._http.call("GET", urlsplit(url).path), UploadProgress)

    def put_file(self, url: str, file: BinaryIO, size: int, first: int = 0) -> None:
        """Send a file of this size from byte `first` on to the address of an upload; the file stands there."""
        if (answer := self._http.stream_up(urlsplit(url).path, file, size, first=first)).status >= _REDIRECTED:
            raise _refused(answer)

    def confirm_upload(self, upload_id: str) -> UploadDone:
        """Return the reference to a file all of which is there."""
        return self._post("files/confirm-upload", ConfirmUpload(upload_id=upload_id), UploadDone)

    @contextmanager
    def file(self, file_id: str, first: int = 0) -> Iterator[Iterator[bytes]]:
        """Give the pieces of a stored file from one byte on, to be read inside the block."""
        path = f"{_BASE}/files/{quote(file_id, safe='')}"
        with self._stream(path, first) as stream:
            if stream.status >= _REDIRECTED:
                raise _refused(stream.whole())
            yield stream.pieces()

    @contextmanager
    def _stream(self, path: str, first: int) -> Iterator[HttpStream]:
        """Open a stream; a token that is refused is renewed once."""
        token = None if self._bearer is None else self._bearer.access_token()
        with self._http.stream_down(path, bearer=token, first=first) as stream:
            if stream.status < _REFUSED:
                yield stream
                return
            refused = stream.whole()
        stale = _wants_new_token(refused)
        if self._bearer is None or token is None or not stale or not self._bearer.on_unauthorized(token):
            raise _refused(refused)
        with self._http.stream_down(path, bearer=self._bearer.access_token(), first=first) as stream:
            yield stream

    def agents(
        self,
        *,
        cursor: str | None = None,
        limit: int | None = None,
        tag: str | None = None,
        listing: str | None = None,
    ) -> AgentPage:
        """Return one page of the registry, with each agent's card and instances."""
        query = {"include": "full", "cursor": cursor, "limit": limit, "tag": tag, "listing": listing}
        return self._get("registry/agents", query, AgentPage)

    def agent(self, name: str) -> AgentRow:
        """Return one agent of the registry."""
        return self._get("registry/agents", {"agentName": name}, AgentAnswer).agent

    def remove_agent(self, name: str) -> None:
        """Take the caller's own agent out of the registry."""
        answer = self._call("DELETE", f"registry/agents?{urlencode({'agentName': name})}", None, None)
        if answer.status >= _REFUSED:
            raise _refused(answer)

    def set_offline(self, name: str, *, offline: bool) -> AgentRow:
        """Keep an agent's instances out, or let them in again."""
        verb = "offline" if offline else "online"
        answer = self._call("POST", f"registry/agents/{quote(name, safe='')}/{verb}", b"{}", None)
        return _content(answer, AgentAnswer).agent

    def drain_instance(self, instance_id: str, request: DrainInstance) -> InstanceList:
        """Ask the instances of a name to finish what they have and end; return them as they stand."""
        return self._post(f"registry/instances/{quote(instance_id, safe='')}/drain", request, InstanceList)

    def with_key(self, path: str, api_key: str, message: Any, kind: type[T], *, vital: bool = False) -> T:
        """Return what a door gives that an API key opens."""
        body = encode(message)
        return _content(self._http.call("POST", f"{_BASE}/{path}", body=body, bearer=api_key, vital=vital), kind)

    def _get(self, path: str, query: dict[str, str | int | None], kind: type[T], timeout: float | None = None) -> T:
        given = {name: value for name, value in query.items() if value is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        return _content(self._call("GET", target, None, timeout), kind)

    def _post(self, path: str, message: Any, kind: type[T], timeout: float | None = None, *, vital: bool = False) -> T:
        return _content(self._call("POST", path, encode(message), timeout, vital=vital), kind)

    def _batch(self, path: str, items: Sequence[Any], kind: type[T], timeout: float | None) -> list[ItemResult[T]]:
        return _results(self._call("POST", path, encode(items), timeout), len(items), kind)

    def _call(
        self, method: str, path: str, body: bytes | None, timeout: float | None, *, vital: bool = False
    ) -> HttpAnswer:
        target = f"{_BASE}/{path}"
        if self._bearer is None:
            return self._http.call(method, target, body=body, timeout=timeout, vital=vital)
        token = self._bearer.access_token()
        answer = self._http.call(method, target, body=body, bearer=token, timeout=timeout, vital=vital)
        if _wants_new_token(answer) and self._bearer.on_unauthorized(token):
            token = self._bearer.access_token()
            answer = self._http.call(method, target, body=body, bearer=token, timeout=timeout, vital=vital)
        return answer


def _refused(answer: HttpAnswer) -> RpcError:
    """Return the error that an answer becomes, with the pause that it asks for."""
    error = refusal(answer.status, _problem(answer.body))
    if error.retry_after is None:
        error.retry_after = pause_of(answer.headers)
    return error


def _wants_new_token(answer: HttpAnswer) -> bool:
    if answer.status < _REFUSED:
        return False
    if answer.status == _UNAUTHORIZED:
        return True
    problem = _problem(answer.body)
    return problem is not None and problem.code in STALE_CODES


def _content(answer: HttpAnswer, kind: type[T]) -> T:
    if answer.status >= _REDIRECTED:
        raise _refused(answer)
    try:
        # The hub wrote it, over a connection that we opened to it: its shape is checked, not its manners.
        return decode_trusted(kind, answer.body)
    except InvalidMessageError as error:
        raise RpcError(
            f"the hub's answer is not what was expected: {error}", code="BadAnswer", status=answer.status
        ) from error


def _results(answer: HttpAnswer, sent: int, kind: type[T]) -> list[ItemResult[T]]:
    """Return what each item of a batch got, all read at once where each has the body that was asked for."""
    try:
        alike: list[ItemAnswerOf[T]] = _content(answer, list[ItemAnswerOf[kind]])  # type: ignore[valid-type]  # known at run time
        results = [ItemResult(each.status, each.body, None) for each in alike]
    except RpcError as error:
        if error.code != "BadAnswer":
            raise
        results = [_item(each, kind) for each in _content(answer, list[ItemAnswer])]
    if len(results) != sent:
        raise RpcError(f"the hub answered {len(results)} items where {sent} were sent", code="BadAnswer")
    return results


def _item(answer: ItemAnswer, kind: type[T]) -> ItemResult[T]:
    content = bytes(answer.body)
    try:
        return ItemResult(answer.status, decode_trusted(kind, content), None)
    except InvalidMessageError as error:
        return ItemResult(answer.status, None, _problem(content) or Problem(code="BadAnswer", message=str(error)))


def _problem(content: bytes) -> Problem | None:
    try:
        return decode_trusted(Problem, content)
    except InvalidMessageError:
        return None
