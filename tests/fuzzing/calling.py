"""Play bent calls at a running hub over real sockets, with good tokens, and write down how it answered."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes, urlsplit

from fuzzing.decoding import SLOW, shortest
from fuzzing.mutations import Mutator
from fuzzing.networked import WORDS
from fuzzing.recorded import record
from fuzzing.samples import LINK_TO_HUB
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fuzzing.recorded import Recorded
    from support_hub import Caller

#: Calls after which another owner does everything anew: what is fuzzed ends tasks, agents and keys.
WORLD = 400
#: Seconds that an answer is waited for.
PATIENCE = 10.0
#: Answers that a busy hub may give.
BUSY = {503, 507}
_LATIN = "latin-1"


@dataclass
class Called:
    """What became of the calls of one kind."""

    kind: str
    calls: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    faults: list[str] = field(default_factory=list)


class Logged(logging.Handler):
    """Keep what the hub reports as its own fault."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.told.append(self.format(record))


class Calls:
    """Bend recorded calls in ways that a seed decides."""

    def __init__(self, hub: Caller, folder: Path, seed: int) -> None:
        self._hub = hub
        self._folder = folder
        self._seed = seed
        self._source = random.Random(f"{seed} calls")
        self._mutator = Mutator(self._source)
        self._recorded: list[Recorded] = []
        self._tokens: list[str] = []
        self._made = 0
        self._kept: dict[bool, socket.socket] = {}
        self._log = Logged()
        acts: list[Callable[[], tuple[bytes, str] | None]] = [
            self._body, self._path, self._fields, self._chunks, self._spoilt, self._half, self._length, self._smuggled,
            self._junk, self._multipart, self._link,
        ]  # fmt: skip
        self._acts = acts
        self._weights = [30, 14, 6, 6, 12, 5, 6, 6, 5, 3, 7]
        self.told = {act.__name__.lstrip("_"): Called(act.__name__.lstrip("_")) for act in acts}
        self._now = self.told["body"]

    def play(self, calls: int, deadline: float = float("inf")) -> None:
        """Make so many calls, or as many as there is time for."""
        logger = logging.getLogger("blocks_worker")
        logger.addHandler(self._log)
        try:
            while self._made < calls and time.monotonic() < deadline:
                if self._made % WORLD == 0:
                    self._begin_anew()
                self._one()
        finally:
            logger.removeHandler(self._log)
            self._let_go()

    def _one(self) -> None:
        act = self._source.choices(self._acts, self._weights)[0]
        self._now = self.told[act.__name__.lstrip("_")]
        self._made += 1
        self._now.calls += 1
        self._log.told.clear()
        made = act()
        if made is not None:
            self._exchange(*made)
        for line in self._log.told:
            self._fault(f"the hub logged {line}", b"" if made is None else made[0])

    def _begin_anew(self) -> None:
        self._recorded, world = record(self._hub, self._folder)
        self._tokens = [str(each) for each in world.credentials().values() if each]

    def _call(self) -> Recorded:
        return self._source.choice(self._recorded)

    def _host(self, call: Recorded) -> str:
        return str(urlsplit(self._place(network=call.network)).netloc)

    def _place(self, *, network: bool) -> str:
        return self._hub.address.origin if network else self._hub.address.url

    def _others(self) -> list[bytes]:
        return [call.body for call in self._recorded if call.body]

    # ------------------------------------------------------------------ ways to bend a call
    def _body(self) -> tuple[bytes, str]:
        call = self._source.choice([call for call in self._recorded if call.body])
        body = self._mutator.message([call.body or b""] * 20 + self._others()[:1])
        return call.raw(body, self._host(call)), "keep" if not call.network else "keep network"

    def _path(self) -> tuple[bytes, str]:
        call = self._call()
        bent = self._mutator.message([call.path.encode()], [*WORDS, b"?", b"&", b"limit=", b"//", b";"])
        path = "/" + quote_from_bytes(bent.lstrip(b"/"), safe="/%?&=,:;@+$!*'()~#[]")
        return call.raw(call.body, self._host(call), path=path[:6000]), "keep" if not call.network else "keep network"

    def _fields(self) -> tuple[bytes, str]:
        call = self._call()
        token = self._source.choice(self._tokens)
        value = self._mutator.message([token.encode(), b"bytes=0-5", b"gzip", b"http://127.0.0.1"])
        name = self._source.choice(
            ["Authorization: Bearer ", "X-API-Key: ", "Range: ", "Content-Encoding: ", "Origin: ", "Cookie: ", "Host: ",
             "Content-Type: ", "Expect: ", "Upgrade: ", "Connection: ", "X: ", "If-Match: ", "Accept: ", "Referer: "]
        )  # fmt: skip
        line = name.encode() + value.replace(b"\r", b"").replace(b"\n", b"")[:9000] + b"\r\n"
        return call.raw(call.body, self._host(call), more=line), "close network" if call.network else "close"

    def _chunks(self) -> tuple[bytes, str]:
        call = self._source.choice([call for call in self._recorded if call.body])
        body, at = call.body or b"", self._source.randrange(len(call.body or b"") + 1)
        pieces = [piece for piece in (body[:at], body[at:]) if piece]
        chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        bent = self._mutator.message([chunked], [b"0\r\n\r\n", b"ffffffff\r\n", b"-1\r\n", b";x=y\r\n", b"X: y\r\n"])
        sent = call.raw(None, self._host(call), more=b"Transfer-Encoding: chunked\r\n") + bent
        return sent, "close network" if call.network else "close"

    def _spoilt(self) -> tuple[bytes, str]:
        call = self._call()
        raw = call.raw(call.body, self._host(call))
        return self._mutator.message([raw], WORDS), "close network" if call.network else "close"

    def _half(self) -> tuple[bytes, str]:
        call = self._call()
        raw = call.raw(call.body, self._host(call))
        return raw[: self._source.randrange(len(raw))], "close network" if call.network else "close"

    def _length(self) -> tuple[bytes, str]:
        call = self._source.choice([call for call in self._recorded if call.body])
        length = self._source.choice(
            ["0", "1", "-1", "+5", "0x5", "5, 5", "5 5", "", "1e3", "9" * 30, "\xb2", str(len(call.body or b"") + 7)]
        )
        line = f"Content-Length: {length}\r\n".encode(_LATIN)
        return call.raw(None, self._host(call), more=line) + (call.body or b""), "close"

    def _smuggled(self) -> tuple[bytes, str]:
        call, inner = self._call(), self._call()
        within = inner.raw(inner.body, self._host(call))
        lines = self._source.choice(
            [
                b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(within),
                b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
                b"Transfer-Encoding: chunked, identity\r\n",
                b"Transfer-Encoding: xchunked\r\n",
                b"Transfer-Encoding:\x0bchunked\r\n",
                b"Transfer-Encoding : chunked\r\n",
                b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(within),
                b"X: y\r\n Content-Length: 5\r\n",
                b"X: y\rContent-Length: 5\r\n",
                b"Content-Length: %d\r\n" % len(within),
            ]
        )
        sent = call.raw(None, self._host(call), more=lines) + self._source.choice([b"", b"0\r\n\r\n"]) + within
        return sent, "close network" if call.network else "close"

    def _junk(self) -> tuple[bytes, str]:
        data = self._source.randbytes(self._source.choice((1, 10, 100, 3000)))
        if self._source.random() < 0.5:
            data = self._mutator.message(
                [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01", b"PRI * HTTP/2.0"], WORDS
            )
        return data, self._source.choice(["close", "close network"])

    def _multipart(self) -> tuple[bytes, str]:
        call = self._source.choice([call for call in self._recorded if call.method != "GET" and not call.network])
        part = (
            b'--b\r\nContent-Disposition: form-data; name="a"; filename="../b"\r\n\r\n' + (call.body or b"x") + b"\r\n"
        )
        body = self._mutator.message([part * self._source.choice((1, 50)) + b"--b--\r\n"])
        return call.raw(body, self._host(call), more=b"Content-Type: multipart/form-data; boundary=b\r\n"), "keep"

    def _link(self) -> None:
        """Speak bent frames over a link, recorded calls among them, or bend its handshake."""
        bearer = self._source.choice(self._tokens[1:3] * 6 + self._tokens)
        frames = [*LINK_TO_HUB, self._asked(bearer), self._asked(bearer)]
        said = [json.dumps([["token", 1, bearer]]).encode()]
        for _ in range(self._source.choice((1, 3, 8))):
            is_good = self._source.random() < 0.5
            said.append(self._source.choice(frames) if is_good else self._mutator.message(frames))
        said.append(b'[["where",99]]')
        begun = time.perf_counter()
        self._spoken(bearer, said)
        took = time.perf_counter() - begun
        self._took(shortest(took, lambda: self._spoken(bearer, said)), b"")

    def _spoken(self, bearer: str, said: list[bytes]) -> None:
        url = self._hub.address.url.replace("http", "ws") + "/api/v1/link"
        head = {"Authorization": f"Bearer {bearer}"}
        try:
            with connect(url, additional_headers=head, compression=None, proxy=None, close_timeout=2) as link:
                for each in said:
                    link.send(each)
                self._hear(link)
        except (WebSocketException, OSError) as error:
            code = getattr(getattr(error, "rcvd", None), "code", None)
            status = getattr(getattr(error, "response", None), "status_code", None)
            self._now.statuses[f"closed {code}" if code else str(status or "cut")] += 1
            if code == 1011 or (status or 0) >= 500:
                self._fault(f"the link ended with {code or status}", b"")
        else:
            self._now.statuses["101"] += 1

    def _asked(self, bearer: str) -> bytes:
        call = self._source.choice([call for call in self._recorded if not call.network])
        body = None
        with contextlib.suppress(ValueError):
            body = json.loads(call.body or b"null")
        return json.dumps([["token", 1, bearer], ["ask", 7, call.method, call.path, 1, body]]).encode()

    def _hear(self, link: Any) -> None:
        while True:
            said = json.loads(link.recv(PATIENCE))
            if any(each[0] == "answer" and each[1] == 99 for each in said):
                return
            for each in said:
                if each[0] == "answer" and each[2] >= 500 and each[2] not in BUSY:
                    self._fault(f"a call over the link was answered {each}", b"")

    # ------------------------------------------------------------------ the wire
    def _exchange(self, sent: bytes, how: str) -> None:
        network = how.endswith("network")
        ask = self._kept_open if how.startswith("keep") else self._closing
        begun = time.perf_counter()
        statuses = ask(sent, network=network)
        took = shortest(time.perf_counter() - begun, lambda: ask(sent, network=network))
        for status, body in statuses:
            self._now.statuses[str(status)] += 1
            if status >= 500 and (status not in BUSY or network):
                self._fault(f"answered {status} {body[:200]!r}", sent)
        if not statuses:
            self._now.statuses["cut"] += 1
        self._took(took, sent)

    def _took(self, seconds: float, sent: bytes) -> None:
        self._now.longest = max(self._now.longest, seconds)
        if seconds > SLOW:
            self._fault(f"it took {seconds:.2f} s", sent)

    def _fault(self, what: str, sent: bytes) -> None:
        if len(self._now.faults) < 5:
            self._now.faults.append(
                f"{self._now.kind}, call {self._made} of seed {self._seed}: {what}\n  {sent[:3000]!r}"
            )

    def _kept_open(self, sent: bytes, *, network: bool) -> list[tuple[int, bytes]]:
        """Ask on a connection that stays; polls that are held are left by closing it."""
        for _ in range(2):
            wire = self._kept.pop(network, None) or self._connected(network=network)
            try:
                wire.sendall(sent)
                answer = http.client.HTTPResponse(wire)
                answer.begin()
                body = answer.read()
            except (http.client.HTTPException, OSError, ValueError):
                wire.close()
                continue
            self._check_body(answer, body, sent)
            if answer.will_close:
                wire.close()
            else:
                self._kept[network] = wire
            return [(answer.status, body)]
        return []

    def _check_body(self, answer: http.client.HTTPResponse, body: bytes, sent: bytes) -> None:
        if body and (answer.headers.get("content-type") or "").startswith("application/json"):
            try:
                json.loads(body.decode("utf-8"))
            except ValueError:
                self._fault(f"answered {answer.status} with what is no JSON: {body[:200]!r}", sent)

    def _closing(self, sent: bytes, *, network: bool) -> list[tuple[int, bytes]]:
        """Send on a connection of its own, say that nothing more comes, read all that comes back."""
        pieces: list[bytes] = []
        with self._connected(network=network) as wire, contextlib.suppress(OSError):
            wire.sendall(sent)
            wire.shutdown(socket.SHUT_WR)
            while piece := wire.recv(65536):
                pieces.append(piece)
        return list(_statuses(b"".join(pieces)))

    def _connected(self, *, network: bool) -> socket.socket:
        where = urlsplit(self._place(network=network))
        wire = socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=PATIENCE)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    def _let_go(self) -> None:
        for wire in self._kept.values():
            wire.close()
        self._kept.clear()


def _statuses(came: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the status of each answer, with what stands behind its line."""
    for part in came.split(b"HTTP/1.1 ")[1:]:
        if part[:3].isdigit():
            yield int(part[:3]), part[3:300]
