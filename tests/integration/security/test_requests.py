"""[K10] [K11] Requests that are bent: smuggled, misspelt, under another name or verb, from another site's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support_probes import Arena, World

END = b"Connection: close\r\n\r\n"
HOST = b"Host: localhost\r\n"
#: A request within a body: were it seen as one of its own, its answer would be a second one.
INNER = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\r\n"


def _post(*fields: bytes, body: bytes = INNER) -> bytes:
    return b"POST /api/v1/tasks HTTP/1.1\r\n" + HOST + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


_LENGTH = b"Content-Length: %d" % len(INNER)
#: One line a way to have two readers of one request disagree about where it ends.
SMUGGLED: dict[str, bytes] = {
    "length and chunked": _post(_LENGTH, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER),
    "chunked and length": _post(b"Transfer-Encoding: chunked", _LENGTH, body=b"0\r\n\r\n" + INNER),
    "two lengths": _post(b"Content-Length: 0", _LENGTH),
    "list of lengths": _post(b"Content-Length: 0, %d" % len(INNER)),
    "signed length": _post(b"Content-Length: +0"),
    "negative length": _post(b"Content-Length: -1"),
    "hexadecimal length": _post(b"Content-Length: 0x0"),
    "length with a blank": _post(b"Content-Length : 0"),
    "empty length": _post(b"Content-Length: "),
    "length of letters": _post(b"Content-Length: zero"),
    "endless length": _post(b"Content-Length: 99999999999999999999999"),
    "chunked with a blank": _post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + INNER),
    "chunked twice": _post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + INNER),
    "not chunked last": _post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + INNER),
    "other encoding": _post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + INNER),
    "chunk size of letters": _post(b"Transfer-Encoding: chunked", body=b"zz\r\n\r\n"),
    "chunk size negative": _post(b"Transfer-Encoding: chunked", body=b"-1\r\n\r\n"),
    "chunk size endless": _post(b"Transfer-Encoding: chunked", body=b"f" * 40 + b"\r\n\r\n"),
    "chunk longer than said": _post(b"Transfer-Encoding: chunked", body=b"1\r\nabc\r\n0\r\n\r\n"),
    "folded field": _post(b"Content-Length: 0\r\n Transfer-Encoding: chunked"),
    "field without colon": _post(b"Content-Length 0"),
    "field without name": _post(b": 0"),
    "NUL in a field": _post(b"X: a\0b"),
    "bare CR": _post(b"X: a\rContent-Length: 0"),
    "name with CR": _post(b"X\r: a"),
    "name not ASCII": _post(b"\xc3\xa9: a"),
    "no version": b"GET /livez\r\n\r\n",
    "other version": b"GET /livez HTTP/3.7\r\n" + HOST + END,
    "version in small": b"GET /livez http/1.1\r\n" + HOST + END,
    "blank in the address": b"GET /li vez HTTP/1.1\r\n" + HOST + END,
    "verb in small": b"get /livez HTTP/1.1\r\n" + HOST + END,
    "verb of ours": b"BREW /livez HTTP/1.1\r\n" + HOST + END,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n" + END,
    "two hosts": b"GET /livez HTTP/1.1\r\n" + HOST + HOST + END,
    "host elsewhere": b"GET http://evil.example/livez HTTP/1.1\r\nHost: evil.example\r\n" + END,
    "CONNECT": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n" + END,
}


@pytest.mark.parametrize("network", [False, True], ids=["hub", "network"])
@pytest.mark.parametrize("name", SMUGGLED)
def test_no_request_hides_another(stage: Arena, name: str, *, network: bool) -> None:
    """[K10] It gets one answer, a refusal, and the end of its connection; what stands behind it is never answered."""
    answer = stage.raw(SMUGGLED[name], network=network, timeout=5)

    assert answer[:10] in {b"HTTP/1.1 4", b""}
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b'"ok"' not in answer
    assert stage.hub.ask("GET", "/livez").status == 200


def test_a_sound_request_within_a_body_is_a_body(stage: Arena) -> None:
    """The same body, its length said once, is read as one, and the request behind it is answered by itself."""
    answer = stage.raw(_post(_LENGTH) + b"GET /livez HTTP/1.1\r\n" + HOST + END)

    assert [answer.count(b"HTTP/1.1 401"), answer.count(b"HTTP/1.1 200")] == [1, 1]


#: One line a way to write an address that no door has, though one has something like it.
ADDRESSES = [
    "/API/v1/tasks",
    "/api/V1/tasks",
    "/api/v1/Tasks",
    "/api/v1/tasks/",
    "//api/v1/tasks",
    "/api//v1/tasks",
    "/./api/v1/tasks",
    "/x/../api/v1/tasks",
    "/api/v1/tasks;a=b",
    "/api/v1/tasks%00",
    "/api/v1/tasks%20",
    "/api/v1/tasks%2f",
    "/api/v1%2ftasks",
    "/api/v1/tasks%3f",
    "/api/v1/tasks%0d%0a",
    "/api/v1/tasks.json",
    "/api/v1/tasks\\",
    "/api/v2/tasks",
    "/api/tasks",
    "/tasks",
    "/docs",
    "/openapi.json",
    "/debug",
    "/admin",
    "/.env",
    "/.git/config",
    "/_ctl",
    "/api/v1/files/../tasks",
    "/api/v1/files/%2e%2e/tasks",
    "/api/v1/registry/agents/../../tasks",
]


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_address_is_what_it_is(stage: Arena, ann: World, path: str) -> None:
    """[K10] Nothing is cleaned up before a door is looked for: 404, with a good token too, and a record without it."""
    head = f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {ann.consumer}\r\n".encode()
    stage.refusals.new()

    answer = stage.raw(head + HOST + END)

    (record,) = stage.refusals.new()
    assert answer[:12] == b"HTTP/1.1 404"
    assert (record["status"], record["by"]) == (404, "ann")
    assert ann.consumer not in str(record)


@pytest.mark.parametrize("verb", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/api/v1/tasks", "/api/v1/auth/agent/connect", "/api/v1/heartbeats", "/livez"])
@pytest.mark.parametrize("how", ["verb", "override"])
def test_another_verb_is_another_request(stage: Arena, ann: World, verb: str, path: str, how: str) -> None:
    """[K10] A verb that the door has not is 405, and no field of the head turns one into another."""
    if how == "override":
        headers = {"X-HTTP-Method-Override": verb, "X-HTTP-Method": verb, "X-Method-Override": verb}
        answered = stage.hub.ask("GET", f"{path}?_method={verb}", headers=headers, bearer=ann.consumer)
        assert answered.status in {200, 405}
        return
    answer = stage.raw(f"{verb} {path} HTTP/1.1\r\nAuthorization: Bearer {ann.consumer}\r\n".encode() + HOST + END)

    assert answer[:12] == b"HTTP/1.1 405"


#: Names under which a page of another site may have this machine called, or say that it was.
HOSTS = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example#localhost",
    "localhost@evil.example",
    "localhost, evil.example",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0.0.0.0",  # noqa: S104 - to be refused
    "[::]",
    "[::ffff:7f00:1]",
    "localhost.",
    "LOCALHOST.example",
    "",
]
ORIGINS = [
    "http://evil.example",
    "https://localhost:1",
    "http://localhost.evil.example",
    "http://localhost:1",
    "null",
    "file://",
    "http://",
    "",
    "http://[::1]:1",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("network", [False, True], ids=["hub", "network"])
@pytest.mark.parametrize("host", HOSTS)
def test_another_name_is_not_answered(stage: Arena, host: str, *, network: bool) -> None:
    """[K11] A name that was made to point here is 403 on either port, also for what is open to all."""
    path = b"/time/0" if network else b"/livez"
    answer = stage.raw(b"GET " + path + b" HTTP/1.1\r\nHost: " + host.encode() + b"\r\n" + END, network=network)

    assert answer[:12] in {b"HTTP/1.1 403", b"HTTP/1.1 400"}
    good = stage.raw(b"GET " + path + b" HTTP/1.1\r\n" + HOST + END, network=network)
    assert good[:12] == b"HTTP/1.1 200"


@pytest.mark.parametrize("field", ["X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Original-URL"])
def test_what_a_proxy_might_say_counts_for_nothing(stage: Arena, ann: World, field: str) -> None:
    """[K11] No such field changes where a request goes or where it is said to come from."""
    headers = {field: "/api/v1/auth/keys" if "URL" in field else "203.0.113.9"}

    answered, record = stage.refused("GET", "/api/v1/tasks/x", headers=headers, bearer=ann.consumer)

    assert (answered.status, record["from"]) == (404, "127.0.0.1")


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("verb", ["GET", "POST", "OPTIONS"])
def test_pages_of_other_sites_are_kept_out(stage: Arena, ann: World, origin: str, verb: str) -> None:
    """[K11] A foreign Origin is 403, with a good token too, and a preflight gets no leave."""
    sent = f"{verb} /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer {ann.consumer}\r\nOrigin: {origin}\r\n"
    asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n"

    answer = stage.raw(sent.encode() + asks.encode() + HOST + END)

    assert answer[:12] == b"HTTP/1.1 403"
    assert b"access-control-" not in answer.lower()
    assert b"set-cookie" not in answer.lower()
