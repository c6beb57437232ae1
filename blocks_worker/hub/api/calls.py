"""One request and one answer, as the doors see them: a whole body in, bytes out; files go by pieces both ways."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, QueryParams

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.problems import retry_after_of
from blocks_worker.protocol import codec

if TYPE_CHECKING:
    from blocks_worker.hub.problems import RefusalError
    from blocks_worker.hub.task_service import Reply

Scope = MutableMapping[str, Any]

_BEARER = "bearer "


@dataclass(frozen=True)
class Answer:
    """Be what goes back; headers besides type and length are given as pairs."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


@dataclass(frozen=True)
class StreamedAnswer:
    """Be what goes back piece by piece; the headers are all there are, type and length too."""

    status: int
    headers: tuple[tuple[str, str], ...]
    pieces: AsyncGenerator[bytes, None]


async def _no_pieces() -> AsyncGenerator[bytes, None]:
    """Be the body that is here already."""
    for piece in list[bytes]():
        yield piece


class Call:
    """Be one request whose body is here; `path` holds the parts of the address that the route names.

    At a door that streams, `pieces` gives the body as it comes, and `body` is empty.
    """

    __slots__ = ("body", "path", "pieces", "scope")

    def __init__(
        self,
        scope: Scope,
        body: bytes,
        path: Mapping[str, str],
        pieces: Callable[[], AsyncGenerator[bytes, None]] = _no_pieces,
    ) -> None:
        self.scope = scope
        self.body = body
        self.path = path
        self.pieces = pieces

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields, by their names in any case."""
        return Headers(scope=self.scope)

    @property
    def bearer(self) -> str | None:
        """The bearer token, if one was sent."""
        for name, value in self.scope["headers"]:
            if name == b"authorization":
                sent: str = value.decode("latin-1")
                return sent[len(_BEARER) :].strip() if sent[: len(_BEARER)].lower() == _BEARER else None
        return None

    @property
    def api_key(self) -> str | None:
        """The API key, sent as bearer or in a header of its own."""
        return self.bearer or self.headers.get("x-api-key")

    @property
    def query(self) -> Mapping[str, str]:
        """The query of the address; a name given twice counts as its last value."""
        return QueryParams(self.scope.get("query_string", b""))

    def number(self, name: str, default: int, *, low: int = 0, high: int = 2**53) -> int:
        """Return a whole number from the query, held within its bounds."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 16):  # noqa: PLR2004 - as long as 2**53
            raise InvalidMessageError("number", f"{name} must be a whole number of zero or more")
        return min(max(int(text), low), high)


Endpoint = Callable[[Call], Awaitable["Answer | StreamedAnswer"]]


@dataclass(frozen=True)
class Door:
    """Be one endpoint: its verb and address; a hot one has no variable part and is found first.

    One that `streams` is given its request before the body is here, whatever its length.
    `takes` and `gives` are the types of its bodies: `bytes` for those of a file, `str` for text. One that takes `many`
    takes a list of them too, and gives an answer for each. `refuses`: what a refusal may hold besides a problem.
    """

    method: str
    path: str
    endpoint: Endpoint
    hot: bool = field(default=False)
    streams: bool = field(default=False)
    takes: Any = None
    gives: Any = None
    refuses: Any = None
    many: bool = False


def answered(reply: Reply) -> Answer:
    """Return a service's reply as an answer."""
    return Answer(reply.status, codec.encode(reply.body), retry_after_of(reply.body))


def refused(refusal: RefusalError) -> Answer:
    """Return a refusal as an answer."""
    return Answer(refusal.status, codec.encode(refusal.problem), refusal.headers)
