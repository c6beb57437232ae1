"""Files against a server that answers scripted bytes: what is cut off goes on where it was, what arrives is checked."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from support_http import HANG_UP, reply, served

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.files import patience, pieces_of, store_file
from blocks_worker.errors import ArtifactError, FileUploadError, RpcError
from blocks_worker.protocol.events import ArtifactRef
from blocks_worker.protocol.files import PIECE, RequestUpload

ABOUT = RequestUpload(role="consumer-input", agent_name="echo")
OFFER = reply(200, b'{"uploadId":"u","uploadUrl":"/api/v1/files/uploads/s","method":"PUT"}')
DONE = reply(200, b'{"uploadId":"u","artifactRef":{"kind":"file","fileId":"u"}}')
NOT_YET = reply(409, b'{"code":"NotUploaded","message":"m"}')
DATA = b"abc" * 50_000


def progress(there: int) -> bytes:
    """Return the hub's word for how much of the file it has."""
    return reply(200, b'{"uploadId":"u","offset":%d,"size":%d}' % (there, len(DATA)))


def once(_failure: Exception) -> bool:
    """Allow no further try."""
    return False


def soon(failure: Exception) -> bool:
    """Allow further tries for a while."""
    return patience(Clock(), Entropy(), 5)(failure)


def test_a_file_goes_up_whole() -> None:
    """The length and hash are said first, then the very bytes follow, then they are confirmed. [D-14]"""
    with served(OFFER, reply(200), DONE) as (server, http):
        done = store_file(HubApi(http), DATA, ABOUT, once)

    asked = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])
    assert (asked["fileSize"], asked["sha256"]) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert server.requests[1].startswith(b"PUT /base/api/v1/files/uploads/s ")
    assert server.requests[1].endswith(b"\r\n\r\n" + DATA)
    assert done.artifact_ref.file_id == "u"


def test_a_lost_answer_is_asked_for() -> None:
    """Where the answer to the bytes is lost, the confirmation tells that they are all there."""
    with served(OFFER, HANG_UP, DONE) as (server, http):
        assert store_file(HubApi(http), DATA, ABOUT, once).upload_id == "u"

    assert [request.split(b" ", 1)[0] for request in server.requests] == [b"POST", b"PUT", b"POST"]


def test_an_upload_that_broke_off_goes_on() -> None:
    """The hub is asked how much it has, and gets the rest of it, once, also where that is nothing. [F1]"""
    for there, said in ((100_000, b"bytes 100000-149999/150000"), (150_000, b"bytes */150000")):
        with served(OFFER, HANG_UP, NOT_YET, progress(there), reply(200), DONE) as (server, http):
            assert store_file(HubApi(http), DATA, ABOUT, soon).upload_id == "u"

        asked, sent = server.requests[3:5]
        assert asked.startswith(b"GET /base/api/v1/files/uploads/s ")
        assert b"content-range: " + said + b"\r\n" in sent.lower()
        assert sent.endswith(b"\r\n\r\n" + DATA[there:])


def test_what_the_hub_kept_wrongly_is_sent_anew() -> None:
    """Where the whole is not what was said, though only the rest was sent, it is sent once more from its beginning."""
    wrong = reply(422, b'{"code":"NotAsSaid","message":"m"}')
    answers = (OFFER, HANG_UP, NOT_YET, progress(9), wrong, NOT_YET, OFFER, wrong)
    with served(*answers) as (server, http), pytest.raises(FileUploadError) as caught:
        store_file(HubApi(http), DATA, ABOUT, soon)

    assert caught.value.status_code == 422
    assert server.requests[-1].endswith(b"\r\n\r\n" + DATA)


def test_bytes_that_did_not_arrive_are_sent_again() -> None:
    """An upload of which not all arrived is begun anew, whatever became of its address."""
    with served(OFFER, reply(404), NOT_YET, OFFER, reply(200), DONE) as (server, http):
        assert store_file(HubApi(http), DATA, ABOUT, soon).upload_id == "u"

    assert [request.split(b" ", 1)[0] for request in server.requests] == [b"POST", b"PUT", b"POST"] * 2


@pytest.mark.parametrize(("answers", "status"), [((reply(413),), 413), ((OFFER, reply(507)), 507)])
def test_a_refusal_is_told(answers: tuple[bytes, ...], status: int) -> None:
    """What the hub refuses is an error with its status, and is not tried again."""
    with served(*answers) as (_, http), pytest.raises(FileUploadError) as caught:
        store_file(HubApi(http), DATA, ABOUT, soon)

    assert caught.value.status_code == status


def test_a_file_that_became_shorter() -> None:
    """A file that ends before its length is an error here, and leaves no request half sent on a kept connection."""
    with served(reply(200)) as (server, http):
        with pytest.raises(ArtifactError, match="shorter"):
            http.stream_up("/x", io.BytesIO(b"12"), 3)
        assert http.call("GET", "/y").status == 200

    assert server.connections == 2


def test_a_file_that_became_longer() -> None:
    """Not a byte more than was announced is sent."""
    with served(reply(200), reply(200)) as (server, http):
        http.stream_up("/x", io.BytesIO(b"1234"), 3)
        http.call("GET", "/y")

    assert server.requests[0].endswith(b"\r\n\r\n123")
    assert server.connections == 1


def test_what_was_cut_off_goes_on_where_it_was() -> None:
    """A download that breaks off is continued by range, comes in pieces, and its hash is that of the whole."""
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + DATA[:100_000]
    ref = ArtifactRef(kind="file", file_id="f", size=len(DATA), hash=hashlib.sha256(DATA).hexdigest())
    with served(cut, reply(206, DATA[100_000:])) as (server, http):
        pieces = list(pieces_of(HubApi(http), ref, soon))

    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) <= PIECE
    assert b"range: bytes=100000-\r\n" in server.requests[1].lower()


def test_a_file_that_is_refused() -> None:
    """What the hub does not hand out is its refusal."""
    problem = b'{"code":"NotFound","message":"m"}'
    with served(reply(404, problem)) as (_, http), pytest.raises(RpcError) as caught:
        list(pieces_of(HubApi(http), ArtifactRef(kind="file", file_id="f"), once))

    assert (caught.value.code, caught.value.status) == ("NotFound", 404)


class Renewed:
    """Be a bearer with one more token."""

    def __init__(self) -> None:
        self.token = "old"

    def access_token(self) -> str:
        """Return the token of now."""
        return self.token

    def on_unauthorized(self, refused: str) -> bool:
        """Go on to the other one."""
        assert refused == "old"
        self.token = "new"
        return True


def test_a_refused_token_is_renewed_before_a_download() -> None:
    """[3.3] A 401 renews the token, and the file is asked for with the new one."""
    with served(reply(401), reply(200, b"abc")) as (server, http):
        ref = ArtifactRef(kind="file", file_id="f", size=3)
        assert b"".join(pieces_of(HubApi(http, Renewed()), ref, once)) == b"abc"

    assert b"Bearer new" in server.requests[1]
