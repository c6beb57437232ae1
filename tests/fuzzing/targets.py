"""Everything that reads what others sent, as one table: how it is fed, good messages for it, how it may refuse."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from fuzzing.examples import checked, wires
from fuzzing.samples import CARD, CDM, FRAMES, INLINE, LINK_FROM_HUB, LINK_TO_HUB
from fuzzing.samples import dump as _dump

from blocks_worker.artifacts import decode_inline_artifact
from blocks_worker.client.events import TaskEvent
from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.context.messages import StartTaskMessage, parse_control_message
from blocks_worker.controlplane.answer import HttpAnswer
from blocks_worker.controlplane.api import _content as content_of_answer
from blocks_worker.controlplane.api import _results as results_of_answer
from blocks_worker.controlplane.cdm import parse_cdm
from blocks_worker.controlplane.sources import token_result
from blocks_worker.env_file import forget_dotenv, load_dotenv
from blocks_worker.errors import ArtifactError, ConfigurationError, InputError, InvalidMessageError, RpcError
from blocks_worker.handlers.registry import find_handler_entry, load_registry
from blocks_worker.hub.api.batches import items_of
from blocks_worker.hub.auth.guard import Guard
from blocks_worker.hub.auth.signing import SigningKeys
from blocks_worker.hub.auth.tokens import ALGORITHM, AUDIENCE, ISSUER, Kind, Tokens, _key_of
from blocks_worker.hub.cards import check_card_of
from blocks_worker.hub.file_service import file_ids, without_file_ids
from blocks_worker.hub.network import access
from blocks_worker.hub.network.publishing import is_sound_json
from blocks_worker.hub.problems import RefusalError
from blocks_worker.protocol import codec
from blocks_worker.protocol.cards import Card, check_card, load_card
from blocks_worker.protocol.control import open_signed, sign
from blocks_worker.protocol.events import (
    ArtifactRef,
    EventBody,
    TaskEventMessage,
    check_event,
    event_head,
    numbered,
    stored_event,
)
from blocks_worker.protocol.leases import Claim, LateReport, Report
from blocks_worker.protocol.link import from_client, from_hub
from blocks_worker.protocol.parts import RequestPart
from blocks_worker.protocol.streams import Frame, read_message
from blocks_worker.protocol.tasks import EventsAnswer, EventsQuery, SubmitAnswer, SubmitTask
from blocks_worker.state import StateFolder
from blocks_worker.streams.reader import Joiner, opened, size_of
from blocks_worker.transports.envelope import open_envelope, pack
from blocks_worker.transports.replies import ReplyRefusedError, read_reply
from blocks_worker.worker.leftovers import _reports as reports_of_spool
from blocks_worker.worker.spool_file import left_behind
from blocks_worker.worker.start_body import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: What comes in batches.
BATCHED = (SubmitTask, Claim, Report, EventsQuery, LateReport)
KEY = "message-key"
SECRET = b"s" * 32


class NotParsedError(Exception):
    """Say that the foreign parser before our reader took it for no JSON."""


@dataclass(frozen=True)
class Target:
    """One reader: `feed` raises one of `refusals`, or nothing."""

    name: str
    feed: Callable[[bytes], object]
    samples: list[bytes]
    refusals: tuple[type[Exception], ...] = (InvalidMessageError, NotParsedError)
    #: What its language is made of.
    words: list[bytes] = field(default_factory=list)


def targets(folder: Path) -> list[Target]:
    """Return every reader; those of files read them in the folder."""
    return [*_protocol(), *_hub(), *_client(), *_streams(), *_files(folder), *_credentials()]


def _foreign(data: bytes) -> Any:
    """Parse as the SDK does, which hands over whatever that gives."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotParsedError from error


# ------------------------------------------------------------------------------------------------ protocol
def _protocol() -> list[Target]:
    kinds = wires()
    control = [checked(kind) for kind in kinds if kind.__module__.endswith(".control") and "type" in _fields(kind)]
    signed = [_dump(msgspec.to_builtins(sign(each, 7, KEY))) for each in control]
    return [
        Target("codec: any struct", partial(_any, codec.decode, kinds), [*map(checked, kinds)]),
        Target("codec: converted", partial(_converted, kinds), [*map(checked, kinds)]),
        Target("control: signed", lambda data: open_signed(_foreign_dict(data), KEY), signed),
        Target("control: content", _signed_content, control),
        Target("events: of a worker", _event, [checked(EventBody)]),
        Target(
            "events: of a session", lambda data: TaskEvent.of(_foreign_dict(data)).weight(), [checked(TaskEventMessage)]
        ),
        Target("link: to the hub", from_client, LINK_TO_HUB),
        Target("link: from the hub", from_hub, LINK_FROM_HUB),
        Target("cards", _card, [_dump(CARD), b"{}"]),
    ]


def _any(read: Callable[[Any, Any], object], kinds: Sequence[Any], data: Any) -> None:
    """Read it as each of the types; it is taken when one of them takes it."""
    refusal: InvalidMessageError | None = None
    taken = 0
    for kind in kinds:
        try:
            read(kind, data)
            taken += 1
        except InvalidMessageError as error:
            refusal = error
    if not taken and refusal is not None:
        raise refusal


def _converted(kinds: Sequence[Any], data: bytes) -> None:
    _any(codec.convert, kinds, _foreign(data))


def _fields(kind: Any) -> tuple[str, ...]:
    return ("type",) if kind.__struct_config__.tag_field == "type" else ()


def _foreign_dict(data: bytes) -> dict[str, Any]:
    value = _foreign(data)
    if not isinstance(value, dict):
        raise NotParsedError
    return value


def _signed_content(data: bytes) -> None:
    text = data.decode("utf-8", errors="replace").encode()
    open_signed(msgspec.to_builtins(sign(text, 7, KEY)), KEY)


def _event(data: bytes) -> None:
    codec.inspect(data)
    check_event(data)
    kept = numbered(stored_event(event_head("t", 1, 1), 1, data), 5)
    codec.decode(dict, kept, limit=2 * codec.MAX_BODY)


def _card(data: bytes) -> None:
    card = _foreign(data)
    findings = check_card(card)
    if isinstance(card, dict):
        _declared(Card(card))
    if findings.errors:
        raise InvalidMessageError("card", findings.errors[0])


def _declared(card: Card) -> None:
    _ = (card.task_kinds, card.inputs, card.outputs, card.streams, card.declares_encryption)


# ------------------------------------------------------------------------------------------------ hub
def _hub() -> list[Target]:
    batches = [_dump([json.loads(checked(kind))] * 2) for kind in BATCHED]
    parts = [_dump([{"partId": "a", "text": "b"}, {"artifactRef": {"kind": "file", "fileId": "x", "size": 3}}])]
    return [
        Target("hub: batches", partial(_any, items_of, BATCHED), batches),
        Target("hub: parts", _parts, parts),
        Target("hub: card", _hub_card, [_dump(CARD)], (InvalidMessageError, RefusalError)),
        Target("network: payload", is_sound_json, [b'{"a":[1,2.5,"x"]}', b'"x"', b"[[[]]]"]),
    ]


def _parts(data: bytes) -> None:
    parts = bytes(codec.decode(SubmitTask, b'{"agentName":"a","requestParts":' + data + b"}").request_parts)
    file_ids(parts)
    without_file_ids(parts)


def _hub_card(data: bytes) -> None:
    check_card_of(codec.decode(dict[str, Any], data))


# ------------------------------------------------------------------------------------------------ client, worker
def _client() -> list[Target]:
    start = {"agentName": "a", "ownerId": "o", "orgId": "o", "requestParts": [{"partId": "p", "text": "[1]"}]}
    items = _dump([{"status": 200, "body": json.loads(checked(SubmitAnswer))}, {"status": 409, "body": {"code": "x"}}])
    answers = [checked(EventsAnswer)]
    refused = _dump({"code": "BillingModeMismatch", "message": "m", "details": {"expected": "free"}})
    token = _dump({"token": "abc", "expiresIn": 60, "userId": "u"})
    return [
        Target("client: answers", _answer, [*answers, refused], (RpcError,)),
        Target(
            "client: batches",
            lambda data: results_of_answer(_answered(200, data), 2, SubmitAnswer),
            [items],
            (RpcError,),
        ),
        Target("client: CDM", lambda data: parse_cdm(data, "here"), [_dump(CDM)], (ConfigurationError,)),
        Target("client: token endpoint", _token, [token], (InvalidMessageError, TypeError, ValueError)),
        Target("worker: start body", _start, [_dump(start)], (InvalidMessageError, InputError)),
        Target(
            "worker: control message",
            lambda data: parse_control_message(_foreign(data)),
            [_dump({**start, "type": "StartTask"})],
        ),
        Target("artifact", _artifact, [_dump(INLINE)], (InvalidMessageError, ArtifactError, NotParsedError)),
    ]


def _answered(status: int, data: bytes) -> HttpAnswer:
    return HttpAnswer(status, data, {})


def _answer(data: bytes) -> None:
    with contextlib.suppress(RpcError):
        content_of_answer(_answered(409, data), EventsAnswer)
    content_of_answer(_answered(200, data), EventsAnswer)


def _token(data: bytes) -> None:
    token_result(codec.decode(dict[str, Any], data))


def _start(data: bytes) -> None:
    start = parsed(data)
    message = StartTaskMessage.of(task_id="t", attempt=1, start=start)
    _ = message.files, message.to_dict()
    message.text(default="")
    message.json()


def _artifact(data: bytes) -> None:
    found = _foreign_dict(data)
    part = RequestPart.from_dict({"artifactRef": found})
    _ = part.artifact_ref, part.mime_type, part.text, part.extra
    ref = ArtifactRef.from_dict(found)
    ref.to_dict()
    decode_inline_artifact(ref)


# ------------------------------------------------------------------------------------------------ network, streams
def _streams() -> list[Target]:
    bodies = [json.loads(checked(Frame)), *map(json.loads, FRAMES)]
    packed = [_dump(each.payload) for each in pack([*bodies, msgspec.to_builtins(sign(b"{}", 1, KEY))], "p", 1)]
    envelope = json.loads(packed[0])
    reply = {
        "t": {"t": "17000000000000000", "r": 4},
        "m": [{"c": "ch", "p": {"t": "16999999999999999", "r": 4}, "k": "s", "d": envelope, "b": "ch", "e": 0}],
    }
    joiner = Joiner()
    return [
        Target("network: poll", _reply, [_dump(reply)], (ReplyRefusedError, NotParsedError, InvalidMessageError)),
        Target("network: envelope", _envelope, packed),
        Target("stream: frames", partial(_frame, joiner), [_dump(each) for each in bodies]),
    ]


def _reply(data: bytes) -> None:
    refused: list[str] = []
    reply = read_reply(
        _foreign(data),
        since=1,
        channels=frozenset({"ch", "other"}),
        refuse=lambda reason, channel, position: refused.append(f"{reason} {channel} {position}"),
    )
    for event in reply.events:
        open_envelope(event.payload)


def _envelope(data: bytes) -> None:
    joiner = Joiner()
    for body in open_envelope(_foreign(data)).bodies:
        _read(joiner, body)


def _frame(joiner: Joiner, data: bytes) -> None:
    _read(joiner, _foreign_dict(data))


def _read(joiner: Joiner, body: dict[str, Any]) -> None:
    found = read_message(body)
    if isinstance(found, Frame) and found.type != "stream_end":
        size_of(found)
        opened(found, joiner)


# ------------------------------------------------------------------------------------------------ files
def _files(folder: Path) -> list[Target]:
    registry = {"handlers": [{"name": "a", "entrypoint": "m:f", "tags": ["x"], "defaults": {"concurrency": 2}}]}
    line = checked(LateReport)
    env = b"A_NAME=value\nexport B='quoted $A_NAME'\n# comment\nC=\"a\\nb\"\nD=${A_NAME:-x}\n"
    hub = {
        "url": "http://127.0.0.1:1",
        "origin": "http://127.0.0.1:2",
        "process": {"host": "h", "pid": 1, "started": "s"},
    }
    words = [b"=", b"\n", b"${", b"}", b"export ", b"#", b"'", b'"', b"A=b\0c", b"=x\n", b"\0=1\n"]
    return [
        Target("file: spool", partial(_spool, folder), [line + b"\n", line + b"\n" + line + b"\n", line], ()),
        Target("file: .env", partial(_env, folder), [env], (ConfigurationError,), words),
        Target("file: registry.json", partial(_registry, folder), [_dump(registry)], (ConfigurationError,)),
        Target("file: agent-card.json", partial(_card_file, folder), [_dump(CARD)], (ConfigurationError,)),
        Target("file: hub.json", partial(_state, folder), [_dump(hub)], (ConfigurationError,)),
    ]


def _spool(folder: Path, data: bytes) -> None:
    path = folder / "mark.inc.spool"
    path.write_bytes(data)
    with left_behind(path) as lines:
        reports_of_spool(lines or [])


def _env(folder: Path, data: bytes) -> None:
    (folder / ".env").write_bytes(data)
    before = dict(os.environ)
    try:
        load_dotenv(folder)
    finally:
        forget_dotenv(before)
        os.environ.update(before)


def _registry(folder: Path, data: bytes) -> None:
    path = folder / "registry.json"
    path.write_bytes(data)
    registry = load_registry(path)
    find_handler_entry(registry, "a")


def _card_file(folder: Path, data: bytes) -> None:
    path = folder / "agent-card.json"
    path.write_bytes(data)
    _declared(Card(load_card(path)))


def _state(folder: Path, data: bytes) -> None:
    (folder / "hub.json").write_bytes(data)
    StateFolder(folder).discovered()
    StateFolder(folder).kept_port("hub")


# ------------------------------------------------------------------------------------------------ credentials
def _credentials() -> list[Target]:
    clock, entropy = Clock(), Entropy()
    tokens = Tokens(SigningKeys.fixed(SECRET, clock), clock=clock, entropy=entropy)
    guard = Guard(tokens, clock, ())
    owner = {"owner": "o", "session": "session.1", "key": "k"}
    holder = {"id": "a", "agent": "n", "instance": "i", "incarnation": "c", "owner": "o", "key": "k"}
    issued = [tokens.issue(Kind.CONSUMER, "o", owner, 60), tokens.issue(Kind.INSTANCE, "a", holder, 60)]
    payloads = [jwt.decode(each, options={"verify_signature": False}) for each in issued]
    now = clock.wall_ms() // 1000
    grant = access.mint(SECRET, user_id="u", read=["ch"], write=["ch"], ttl_minutes=5, now_s=now)
    manager = access.AccessManager(lambda: [SECRET], lambda: now)
    written = [each.encode() for each in issued]
    return [
        Target(
            "token: as text", lambda data: guard.either(_text(data)), written, (RefusalError,), [b".", b"=", b"eyJ"]
        ),
        Target(
            "token: signed by the hub",
            partial(_own_token, guard, tokens),
            [*map(_dump, payloads)],
            (RefusalError, NotParsedError),
        ),
        Target(
            "token: header",
            partial(_header, guard, tokens, written[0].split(b".")[1]),
            [_dump({"alg": "HS256", "kid": tokens._keys.newest.id, "typ": "JWT"})],
            (RefusalError, NotParsedError),
        ),
        Target(
            "grant: as text",
            lambda data: manager.demand(_text(data), "u", ["ch"], access.READ),
            [grant.encode()],
            (access.Denied,),
        ),
    ]


def _text(data: bytes) -> str:
    """Return text as a header gives it, or a caller's own code."""
    return data.decode("latin-1") if len(data) % 2 else data.decode("utf-8", errors="surrogateescape")


def _own_token(guard: Guard, tokens: Tokens, data: bytes) -> None:
    """Sign claims that nobody but the hub could: even then no claim may do harm."""
    payload = _foreign_dict(data)
    kind = Kind.INSTANCE if payload.get("typ") == Kind.INSTANCE.value else Kind.CONSUMER
    usual = {"typ": kind.value, "iss": ISSUER, "aud": AUDIENCE}
    try:
        key = tokens._keys.newest
        token = jwt.encode(usual | payload, _key_of(key.secret, kind), algorithm=ALGORITHM, headers={"kid": key.id})
    except (TypeError, ValueError) as error:
        raise NotParsedError from error
    guard.either(token)


def _header(guard: Guard, tokens: Tokens, body: bytes, data: bytes) -> None:
    """Sign a header that the hub does not write, before claims that it wrote."""
    signed = base64.urlsafe_b64encode(data).rstrip(b"=") + b"." + body
    signature = hmac.new(_key_of(tokens._keys.newest.secret, Kind.CONSUMER), signed, hashlib.sha256).digest()
    guard.either((signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode())
