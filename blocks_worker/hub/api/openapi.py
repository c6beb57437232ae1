"""The doors as an OpenAPI 3.1 document, made from what each says of itself, and the door that shows it."""

from __future__ import annotations

import inspect
import re
from functools import cached_property
from http import HTTPStatus
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.hub.program import release
from blocks_worker.protocol import codec
from blocks_worker.protocol.tasks import MAX_BATCH, ItemAnswer, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocks_worker.hub.api.calls import Call

VERSION = "3.1.0"

_OK, _NO_CONTENT, _REFUSED = 200, 204, 400
_BELOW = "/api/v1/"
_REFERENCE = "#/components/schemas/{name}"
#: Types of bodies that are no structs.
_TYPES = {bytes: "*/*", str: "text/plain"}
_SCHEMAS: dict[Any, dict[str, str]] = {bytes: {}, str: {"type": "string"}, dict: {"type": "object"}}
#: What any call may be answered, whatever its door says.
_ANY = {
    400: "the request is not what it should be",
    401: "the token is missing, wrong or over",
    403: "a foreign Host or Origin",
    404: "there is no such thing, or it is somebody else's",
    408: "the body did not come in time",
    413: "the body is too large",
    431: "the headers are too large",
    503: "unknown whether it was done: repeat with the same ids",
}
_FULL = {507: "the disk is full: nothing new is taken until there is room"}
#: What lets in, by the words with which a door says so.
_SCHEMES = {
    "consumer": {"type": "http", "scheme": "bearer", "description": "The access token of a consumer."},
    "instance": {"type": "http", "scheme": "bearer", "description": "The access token of an instance."},
    "API key": {"type": "http", "scheme": "bearer", "description": "An API key; in X-API-Key it counts as well."},
}
_WHO = re.compile(r"\b(consumer|instance|API key)\b(?!')")
_STATUS = re.compile(r"\b[1-5]\d\d\b")
_LIKE = re.compile(r"as `([A-Z]+) ([^`]+)`")
_PART = re.compile(r"{(\w+)}")
#: Parameters that are whole numbers; every other one is a word.
_NUMBERS = frozenset({"limit", "since", "until"})


class DocumentDoors:
    """Show the document of these doors and of this one; it is made when it is first asked for."""

    def __init__(self, doors: Sequence[Door]) -> None:
        self._doors = [*doors, *self.doors()]

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [Door("GET", "/api/v1/openapi.json", self.document, gives=dict)]

    async def document(self, _call: Call) -> Answer:
        """Show what may be asked here and what is answered, as OpenAPI 3.1.

        Who: anybody
        Answers: 200
        """
        return Answer(_OK, self._written)

    @cached_property
    def _written(self) -> bytes:
        return codec.encode(document(self._doors))


def document(doors: Sequence[Door]) -> dict[str, Any]:
    """Return the document of these doors."""
    named = [kind for door in doors for body in (door.takes, door.gives, door.refuses) for kind in _kinds(body)]
    kinds = {kind for kind in named if _is_struct(kind)} | {Problem, ItemAnswer}
    ordered = sorted(kinds, key=lambda kind: str(kind.__name__))
    _, components = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for door in doors:
        paths.setdefault(door.path, {})[door.method.lower()] = _operation(door, doors)
    told = "Beside these calls there is GET /api/v1/link, a WebSocket that carries them and what the network brings."
    return {
        "openapi": VERSION,
        "info": {"title": "blocks_worker hub", "version": release(), "description": told},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {_scheme(word): said for word, said in _SCHEMES.items()},
        },
    }


def statuses(door: Door, doors: Sequence[Door]) -> dict[int, str]:
    """Return the statuses that a door says it answers, each with what it means; they may be those of another door."""
    said = _labelled(door, "Answers")
    found: dict[int, str] = {}
    for verb, path in _LIKE.findall(said):
        like = next(each for each in doors if (each.method, each.path.removeprefix(_BELOW)) == (verb, path))
        found.update(statuses(like, doors))
    for clause in said.split(" · "):
        for number in map(int, _STATUS.findall(clause)):
            if number in _KNOWN:
                found[number] = clause
    return found


def lets_in(door: Door) -> list[str]:
    """Return what lets in at a door: a consumer's token, an instance's, an API key; none of them where anybody may."""
    return sorted(set(_WHO.findall(_labelled(door, "Who"))), key=list(_SCHEMES).index)


def is_open(door: Door) -> bool:
    """Tell whether a door says that nothing is needed to pass it."""
    return _labelled(door, "Who").startswith(("anybody", "whoever"))


_KNOWN = frozenset(int(status) for status in HTTPStatus)


def _operation(door: Door, doors: Sequence[Door]) -> dict[str, Any]:
    said = inspect.getdoc(door.endpoint) or ""
    nothing: list[dict[str, list[str]]] = [{}] if is_open(door) else []
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{door.method.lower()} {door.path.removeprefix(_BELOW)}").strip("_"),
        "summary": " ".join(said.split("\n\n")[0].split()),
        "description": f"Who: {_labelled(door, 'Who')}",
        "security": [*nothing, *({_scheme(word): []} for word in lets_in(door))],
        "parameters": list(_parameters(door)),
        "responses": _responses(door, doors),
    }
    if door.takes is not None:
        operation["requestBody"] = {"required": False, "content": _taken(door)}
    return operation


def _parameters(door: Door) -> Iterator[dict[str, Any]]:
    for name in _PART.findall(door.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for name in filter(None, _labelled(door, "Query").split(", ")):
        kind = {"type": "integer", "minimum": 0} if name in _NUMBERS else {"type": "string"}
        yield {"name": name, "in": "query", "schema": kind}


def _responses(door: Door, doors: Sequence[Door]) -> dict[str, Any]:
    usual = _ANY if door.method == "GET" else _ANY | _FULL
    found = {**usual, **statuses(door, doors)}
    if door.gives is not None and door.many:
        found.setdefault(_OK, "an answer for each item")
    return {str(status): _response(door, status, said) for status, said in sorted(found.items())}


def _response(door: Door, status: int, said: str) -> dict[str, Any]:
    if status == _NO_CONTENT:
        return {"description": said}
    if status >= _REFUSED:
        return {"description": said, "content": _content(Problem, *_kinds(door.refuses))}
    lists = [{"type": "array", "items": _schema(ItemAnswer)}] if door.many and status == _OK else []
    return {"description": said, "content": _content(*_kinds(door.gives), more=lists)}


def _taken(door: Door) -> dict[str, Any]:
    lists = [{"type": "array", "items": _schema(door.takes), "maxItems": MAX_BATCH}] if door.many else []
    return _content(door.takes, more=lists)


def _content(*kinds: Any, more: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return a body that is of one of these types, by what its content is said to be."""
    schemas = [*map(_schema, kinds), *more]
    return {
        _TYPES.get(kinds[0], "application/json"): {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
    }


def _schema(kind: Any) -> dict[str, Any]:
    if _is_struct(kind):
        return {"$ref": _REFERENCE.format(name=kind.__name__)}
    return dict(_SCHEMAS[kind])


def _kinds(body: Any) -> tuple[Any, ...]:
    """Return the types of which a body may be one."""
    return () if body is None else get_args(body) if isinstance(body, UnionType) else (body,)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _scheme(word: str) -> str:
    return {"API key": "apiKey"}.get(word, word)


def _labelled(door: Door, label: str) -> str:
    """Return what a door's docstring says behind ``label:``, with the lines that are indented below it."""
    found = re.search(rf"^{label}: (.*(?:\n[ \t]+\S.*)*)", inspect.getdoc(door.endpoint) or "", re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
